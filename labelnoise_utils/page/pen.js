// Words for numbers, and what a canvas is drawn with. Nothing here depends on anything else.
const NOISE = "#D55E00";
const GREY = "#767676";

const inWords = (x) => {
  const rounded = Number(x.toPrecision(3));
  return rounded !== 0 && Math.abs(rounded) < 1e-4 ? rounded.toExponential() : String(rounded);
};
const count = (n) => n.toLocaleString("en");
const superscript = (k) => [...String(k)].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]).join("");
const powerOfTen = (k) => (k < -2 || k > 3 ? `10${superscript(k)}` : inWords(10 ** k));

// The least of 1, 2, 5, 10, ... that is not below a number.
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= number * (1 - 1e-9));
}

// Where the axes lie in a canvas of some size, with room for words above them.
const makeBox = (width, height, top = 10) => ({ left: 50, top, right: width - 12, bottom: height - 40 });

// Clears a canvas to white at the resolution of the screen; lengths are then CSS pixels. Null while it is not shown.
function clear(canvas, top) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return null;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height, box: makeBox(width, height, top) };
}

function line(pen, points, { colour = "#000", width = 1, dash = [] } = {}) {
  pen.beginPath();
  for (const [x, y] of points) pen.lineTo(x, y);
  [pen.strokeStyle, pen.lineWidth] = [colour, width];
  pen.setLineDash(dash);
  pen.stroke();
}

// Each point of a path as the mean of itself and its neighbours: the mean of some hundred runs still trembles.
function smoothed(path) {
  return path.map((point, i) => {
    const reach = Math.min(12, i, path.length - 1 - i);
    const near = path.slice(i - reach, i + reach + 1);
    return point.map((_, k) => near.reduce((sum, one) => sum + one[k], 0) / near.length);
  });
}

function text(pen, words, x, y, { align = "left", colour = "#000", ground = false } = {}) {
  [pen.textAlign, pen.textBaseline] = [align, "middle"];
  if (ground) {
    [pen.strokeStyle, pen.lineWidth, pen.lineJoin] = ["#fff", 4, "round"];
    pen.setLineDash([]);
    pen.strokeText(words, x, y);
  }
  pen.fillStyle = colour;
  pen.fillText(words, x, y);
}

function axes({ pen, height, box }, xTicks, yTicks, xName, yName) {
  line(pen, [[box.left, box.top], [box.left, box.bottom], [box.right, box.bottom]]);
  for (const [x, words] of xTicks) {
    line(pen, [[x, box.bottom], [x, box.bottom + 4]]);
    text(pen, words, x, box.bottom + 13, { align: "center" });
  }
  for (const [y, words] of yTicks) {
    line(pen, [[box.left - 4, y], [box.left, y]]);
    text(pen, words, box.left - 7, y, { align: "right" });
  }
  text(pen, xName, (box.left + box.right) / 2, height - 9, { align: "center" });
  pen.save();
  pen.translate(9, (box.top + box.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  text(pen, yName, 0, 0, { align: "center" });
  pen.restore();
}

function dot(pen, x, y, colour, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = colour;
  pen.fill();
}

function ring(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 9, 0, 2 * Math.PI);
  [pen.strokeStyle, pen.lineWidth] = ["#000", 2];
  pen.setLineDash([]);
  pen.stroke();
}

// Samples with their words in a row.
function legend(pen, entries, x, y) {
  for (const [words, sample] of entries) {
    sample(x + 10, y);
    text(pen, words, x + 24, y);
    x += 40 + pen.measureText(words).width;
  }
}

const swatch = (pen, colour) => (x, y) => {
  pen.fillStyle = colour;
  pen.fillRect(x - 6, y - 5, 12, 10);
};
