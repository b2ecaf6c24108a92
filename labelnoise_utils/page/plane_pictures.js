// The pictures of functions on the plane; pen.js stands before this in the same function.
const VIEW = { left: -1.1, right: 1.1 };
const TOP = 2; // the value of the strongest colour
const ROOM_ABOVE = 22; // so that the box of a square picture is a square
// matplotlib's PuOr, as in the chapter's figures: orange below 0, violet above.
const SHADES = [[127, 59, 8], [179, 88, 6], [224, 130, 20], [253, 184, 99], [247, 247, 247], [178, 171, 210], [128, 115, 172], [84, 39, 136], [45, 0, 75]];

function shadeOf(value) {
  const at = ((Math.max(-TOP, Math.min(TOP, value)) + TOP) / (2 * TOP)) * (SHADES.length - 1);
  const low = Math.min(SHADES.length - 2, Math.floor(at));
  return SHADES[low].map((v, i) => Math.round(v + (at - low) * (SHADES[low + 1][i] - v)));
}
const COLOURS = Array.from({ length: 257 }, (_, k) => [...shadeOf(((k - 128) / 128) * TOP), 255]);
const shadeInWords = (value) => `rgb(${shadeOf(value).join(",")})`;
const signed = (value) => (value > 0 ? `+${value}` : String(value).replace("-", "−"));

// Between the plane and a picture's pixels; units are equal, since the box is a square.
function planeScale(box) {
  const unit = (box.right - box.left) / (VIEW.right - VIEW.left);
  return {
    x: (x) => box.left + (x - VIEW.left) * unit,
    y: (y) => box.bottom - (y - VIEW.left) * unit,
    dataX: (px) => VIEW.left + (px - box.left) / unit,
    dataY: (py) => VIEW.left + (box.bottom - py) / unit,
  };
}

// A function as colours, its creases, and the points with their labels.
function drawPlane(surface, { values, creases, points, title, selected, dots }) {
  const { pen, box } = surface;
  const scale = planeScale(box);
  const grid = Math.round(Math.sqrt(values.length));
  const picture = new ImageData(grid, grid);
  values.forEach((value, k) => picture.data.set(COLOURS[128 + Math.round(128 * Math.max(-1, Math.min(1, value / TOP)))], 4 * k));
  const small = Object.assign(document.createElement("canvas"), { width: grid, height: grid });
  small.getContext("2d").putImageData(picture, 0, 0);
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  // The middles of the outermost pixels are the edges of the view.
  const pixel = (box.right - box.left) / (grid - 1);
  pen.drawImage(small, box.left - pixel / 2, box.top - pixel / 2, grid * pixel, grid * pixel);
  pen.globalAlpha = 0.7;
  for (const [w1, w2, b] of creases) {
    const square = w1 * w1 + w2 * w2;
    const [foot, length] = [[(-b * w1) / square, (-b * w2) / square], Math.sqrt(square)];
    const end = (way) => [scale.x(foot[0] - (way * w2) / length), scale.y(foot[1] + (way * w1) / length)];
    line(pen, [end(-5), end(5)]);
  }
  pen.restore();
  points.forEach(([x, y, label], number) => {
    const [px, py] = [scale.x(x), scale.y(y)];
    if (dots) {
      dot(pen, px, py, "#000", 7.5);
      dot(pen, px, py, shadeInWords(label), 6);
    }
    if (number === selected) ring(pen, px, py);
    text(pen, signed(label), px + 11, py - 11, { ground: true });
  });
  text(pen, title, box.left, 11);
  const ticks = [-1, -0.5, 0, 0.5, 1];
  axes(surface, ticks.map((k) => [scale.x(k), inWords(k)]), ticks.map((k) => [scale.y(k), inWords(k)]), "x₁", "x₂");
}

// Reg against steps, both on log scales, and the least reg as a line.
function drawReg(surface, history, least) {
  const { pen, box, height } = surface;
  const last = Math.max(10, ...history.map(({ t }) => t));
  const decades = Math.ceil(Math.log10(last) - 1e-9);
  const x = (t) => box.left + (Math.log10(Math.max(1, t)) / decades) * (box.right - box.left);
  const values = history.map(({ reg }) => reg);
  const [low, high] = [0.8 * Math.min(least, ...values), 1.2 * Math.max(2 * least, ...values)];
  const y = (value) => box.bottom - (Math.log(value / low) / Math.log(high / low)) * (box.bottom - box.top);
  line(pen, [[box.left, y(least)], [box.right, y(least)]], { dash: [6, 4], width: 1.5 });
  line(pen, history.map(({ t, reg }) => [x(t), y(reg)]), { colour: NOISE, width: 2.5 });
  text(pen, `the least reg, ${inWords(least)}`, box.left + 6, y(least) - 10, { ground: true });
  const xTicks = Array.from({ length: decades + 1 }, (_, k) => [x(10 ** k), k < 2 ? String(10 ** k) : `10${superscript(k)}`]);
  const yTicks = [];
  for (let k = -4; k < 6; k++) {
    for (const digit of [1, 2, 5]) {
      const value = digit * 10 ** k;
      if (value >= low && value <= high) yTicks.push([y(value), inWords(value)]);
    }
  }
  axes(surface, xTicks, yTicks.slice(-Math.max(2, Math.floor(height / 24))), "steps", "reg");
}

// What the colours stand for, at the upper right of a picture.
function drawScale({ pen, box }) {
  const [wide, left] = [64, box.right - 64 - 22];
  for (let k = 0; k < wide; k++) {
    pen.fillStyle = shadeInWords(-TOP + (2 * TOP * k) / (wide - 1));
    pen.fillRect(left + k, 6, 1, 10);
  }
  text(pen, signed(-TOP), left - 4, 11, { align: "right" });
  text(pen, signed(TOP), left + wide + 4, 11);
}
