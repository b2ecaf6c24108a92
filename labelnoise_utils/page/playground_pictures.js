// The two pictures of the playground; valley.js stands before this in the same function.
const NOISE = "#D55E00";
const GREY = "#767676";

const inWords = (x) => {
  const rounded = Number(x.toPrecision(3));
  return rounded !== 0 && Math.abs(rounded) < 1e-4 ? rounded.toExponential() : String(rounded);
};
const count = (n) => n.toLocaleString("en");

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

const MARGIN = 0.25; // of the plane around the starts that can be chosen

function countInside({ u, v }, reach) {
  const isInside = (x) => x > -MARGIN && x < reach + MARGIN;
  return u.filter((_, i) => isInside(u[i]) && isInside(v[i])).length;
}

function planeScale(box, reach) {
  const length = reach + 2 * MARGIN;
  return {
    x: (u) => box.left + ((u + MARGIN) / length) * (box.right - box.left),
    y: (v) => box.bottom - ((v + MARGIN) / length) * (box.bottom - box.top),
    u: (x) => ((x - box.left) / (box.right - box.left)) * length - MARGIN,
    v: (y) => ((box.bottom - y) / (box.bottom - box.top)) * length - MARGIN,
  };
}

function drawPlane(surface, run, reach) {
  const { pen, box } = surface;
  const { x, y } = planeScale(box, reach);
  const top = reach + MARGIN;
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  const circle = Array.from({ length: 121 }, (_, i) => (i / 120) * 2 * Math.PI);
  for (const [reg, angle, words] of [[2, 0.15, "2"], [8, 0.98, "u² + v² = 8"], [18, 0.65, "18"]]) {
    const [onX, onY] = [(a) => x(Math.sqrt(reg) * Math.cos(a)), (a) => y(Math.sqrt(reg) * Math.sin(a))];
    line(pen, circle.map((a) => [onX(a), onY(a)]), { colour: "#aaa", dash: [2, 3] });
    text(pen, words, onX(angle), onY(angle), { align: "center", colour: GREY, ground: true });
  }
  const valley = Array.from({ length: 201 }, (_, i) => top ** (i / 100 - 1));
  line(pen, valley.map((u) => [x(u), y(1 / u)]), { width: 1.5 });
  pen.fillStyle = NOISE;
  pen.globalAlpha = 0.55;
  const { u, v } = run.cloud;
  for (let i = 0; i < u.length; i++) {
    if (!(Math.abs(u[i]) < 9 && Math.abs(v[i]) < 9)) continue;
    pen.beginPath();
    pen.arc(x(u[i]), y(v[i]), 2.2, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.globalAlpha = 1;
  pen.restore();
  const outside = u.length - countInside(run.cloud, reach);
  if (outside) text(pen, `${count(outside)} outside`, box.right - 4, y(-0.1), { align: "right", ground: true });
  const [startX, startY, flatX, flatY] = [x(run.start.u), y(run.start.v), x(1), y(1)];
  line(pen, [[startX - 5, startY], [startX + 5, startY]], { width: 1.5 });
  line(pen, [[startX, startY - 5], [startX, startY + 5]], { width: 1.5 });
  const nearTop = startY < box.top + 24;
  text(pen, "start", Math.min(startX, box.right - 15), startY + (nearTop ? 16 : -14), { align: "center", ground: true });
  pen.beginPath();
  pen.arc(flatX, flatY, 6, 0, 2 * Math.PI);
  [pen.strokeStyle, pen.lineWidth] = ["#000", 2];
  pen.setLineDash([]);
  pen.stroke();
  text(pen, "flat point", flatX - 10, flatY + 15, { align: "right", ground: true });
  text(pen, "uv = 1", x(0.4) + 7, y(1 / 0.4));
  const ticks = Array.from({ length: Math.floor(reach) + 1 }, (_, i) => i);
  axes(surface, ticks.map((k) => [x(k), `${k}`]), ticks.map((k) => [y(k), `${k}`]), "u", "v");
}

const superscript = (k) => [...String(k)].map((digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]).join("");
const powerOfTen = (k) => (k < -2 || k > 3 ? `10${superscript(k)}` : inWords(10 ** k));

// The least of 1, 2, 5, 10, ... that is not below a number.
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= number * (1 - 1e-9));
}

function drawDecay(surface, run) {
  const { pen, box } = surface;
  const points = run.history.filter(([, s]) => s > 0);
  if (!run.diverged && run.now.s > 0) points.push([run.t, run.now.s]);
  const end = roundUp(Math.max(run.t, 100));
  const values = points.length ? points.map(([, s]) => s) : [1];
  const high = Math.ceil(Math.log10(Math.max(...values)) + 1e-9);
  const low = Math.min(high - 2, Math.floor(Math.log10(Math.min(...values)) + 0.05));
  const x = (t) => box.left + (t / end) * (box.right - box.left);
  const y = (s) => box.top + ((high - Math.log10(s)) / (high - low)) * (box.bottom - box.top);
  line(pen, points.map(([t, s]) => [x(t), y(s)]), { colour: NOISE, width: 3.5 });
  const legend = [["mean of the cloud", { colour: NOISE, width: 3.5 }]];
  if (run.settled && run.settled.s > 0) {
    const { t: from, s } = run.settled;
    const bottom = from + Math.log(s / 10 ** low) / (decayRate(run.parameters) || Number.MIN_VALUE);
    line(pen, [from, Math.min(bottom, end)].map((t) => [x(t), y(run.predicted(t))]), { width: 1.2 });
    legend.push([`predicted: exp(−4 lr² σ² t / B), from step ${count(from)}`, { width: 1.2 }]);
  }
  legend.forEach(([words, style], i) => {
    const row = 10 + 18 * i;
    line(pen, [[14, row], [34, row]], style);
    text(pen, words, 40, row);
  });
  if (!points.length) text(pen, "u² − v² = 0", (box.left + box.right) / 2, box.top + 40, { align: "center" });
  const decades = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  const every = Math.ceil(decades.length / 6);
  const yTicks = decades.filter((k) => (high - k) % every === 0).map((k) => [y(10 ** k), powerOfTen(k)]);
  const xTicks = [0, end / 2].map((t) => [x(t), count(t)]);
  text(pen, count(end), box.right + 4, box.bottom + 13, { align: "right" });
  line(pen, [[box.right, box.bottom], [box.right, box.bottom + 4]]);
  axes(surface, xTicks, yTicks, "steps t", "mean |u² − v²|");
}
