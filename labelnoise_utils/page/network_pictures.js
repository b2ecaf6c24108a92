// The pictures of the network on a line; pen.js stands before this in the same function.
const PLAIN = "#0072B2";
const STYLES = [{ colour: NOISE, width: 3 }, { colour: PLAIN, width: 1.8, dash: [6, 4] }]; // with noise, without
const VIEW = { left: -1.06, right: 1.06, low: -1.05, high: 1.25 };
const ROOM = { left: -1, right: 1, low: -0.95, high: 1.15 }; // for points

// Between the plane of the data and the picture's pixels.
function lineScale(box) {
  const [width, height] = [VIEW.right - VIEW.left, VIEW.high - VIEW.low];
  return {
    x: (x) => box.left + ((x - VIEW.left) / width) * (box.right - box.left),
    y: (y) => box.bottom - ((y - VIEW.low) / height) * (box.bottom - box.top),
    dataX: (x) => ((x - box.left) / (box.right - box.left)) * width + VIEW.left,
    dataY: (y) => ((box.bottom - y) / (box.bottom - box.top)) * height + VIEW.low,
  };
}

function drawNames({ pen, width }, entries) {
  let at = 50;
  for (const [words, style] of entries) {
    line(pen, [[at, 11], [at + 24, 11]], style);
    text(pen, words, at + 30, 11);
    at += Math.min(150, (width - 60) / 2);
  }
}

function drawFunctions(surface, runs) {
  const { pen, box } = surface;
  const { x, y } = lineScale(box);
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  for (const number of [1, 0]) {
    const curve = runs[number] && !runs[number].diverged ? runs[number].curve : [];
    const at = (i) => [x(-1 + (2 * i) / (curve.length - 1)), Math.max(-1e4, Math.min(1e4, y(curve[i])))];
    line(pen, Array.from(curve, (_, i) => at(i)), STYLES[number]);
  }
  pen.restore();
  drawNames(surface, [["with label noise", STYLES[0]], ["without", STYLES[1]]]);
  const xTicks = [-1, -0.5, 0, 0.5, 1];
  const yTicks = [-1, -0.5, 0, 0.5, 1];
  axes(surface, xTicks.map((k) => [x(k), inWords(k)]), yTicks.map((k) => [y(k), inWords(k)]), "x", "output h(x)");
}

// Decades that fit between two powers of ten, at most so many of them.
function decadeTicks(low, high, most) {
  const every = Math.ceil((high - low + 1) / most);
  return Array.from({ length: high - low + 1 }, (_, i) => low + i).filter((k) => (k - low) % every === 0);
}

// One quantity of both runs against steps, which stand on a log scale; so does the quantity, unless it is a count.
function drawHistory(surface, histories, { of, name, isCount = false, floor = 0 }) {
  const { pen, box } = surface;
  const last = Math.max(10, ...histories.flat().map(({ t }) => t));
  const decades = Math.max(1, Math.ceil(Math.log10(last) - 1e-9));
  const x = (t) => box.left + (Math.log10(Math.max(1, t)) / decades) * (box.right - box.left);
  const shown = histories.map((points) => points.filter((one) => isCount || one[of] > floor));
  const values = shown.flat().map((one) => one[of]).concat(isCount ? [4] : []);
  const [least, largest] = values.length ? [Math.min(...values), Math.max(...values)] : [1, 1];
  const low = isCount ? 0 : Math.floor(Math.log10(least) + 1e-9);
  const high = isCount ? largest * 1.08 : Math.max(low + 1, Math.ceil(Math.log10(largest) - 1e-9));
  const scaled = (value) => (isCount ? value : Math.log10(value));
  const y = (value) => box.bottom - ((scaled(value) - low) / (high - low)) * (box.bottom - box.top);
  for (const number of [1, 0]) {
    line(pen, (shown[number] || []).map((one) => [x(one.t), y(one[of])]), { ...STYLES[number], width: 2 });
  }
  const xTicks = decadeTicks(0, decades, 4).map((k) => [x(10 ** k), k < 2 ? String(10 ** k) : `10${superscript(k)}`]);
  const step = Math.max(1, Math.ceil(high / 20) * 5);
  const counts = Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  const yTicks = isCount ? counts.map((k) => [y(k), String(k)]) : decadeTicks(low, high, 4).map((k) => [y(10 ** k), powerOfTen(k)]);
  axes(surface, xTicks, yTicks, "steps", "");
  text(pen, name, box.left - 4, 10);
}
