// The pictures of the motor; pen.js and engine/motor.js stand before this in the same function.
const REACH = 1.3; // labels' units from the middle of the strips to their ends
const ROOM_ABOVE = 28;
const NAMES = ["X₁₁ = |u₁|²", "X₁₂ = u₁·u₂", "X₂₂ = |u₂|²"];

const turnsInWords = (angle) => (angle / (2 * Math.PI)).toFixed(2).replace(/^-(0\.00)$/, "$1").replace("-", "−");

// 4.6 million, or 420,000.
const stepsInWords = (steps) => (steps < 1e6 ? count(Number(steps.toPrecision(2))) : `${count(Number((steps / 1e6).toPrecision(2)))} million`);

// The rows of U as two hands, with the way of their ends; a positive angle turns them counter-clockwise.
function drawClock({ pen, width, height }, { theta, trail, lengths, angle, since, drift }) {
  const [x0, y0] = [width / 2, (height + ROOM_ABOVE) / 2 - 8];
  const unit = (Math.min(width, height - ROOM_ABOVE) / 2 - 8) / 1.17;
  const at = (x, y) => [x0 + unit * x, y0 - unit * y];
  const circle = (radius) => {
    pen.beginPath();
    pen.arc(x0, y0, unit * radius, 0, 2 * Math.PI);
    [pen.strokeStyle, pen.lineWidth] = ["#ccc", 1];
    pen.setLineDash([]);
    pen.stroke();
  };
  lengths.forEach(circle);
  trail.forEach(([a, b, c, d], k) => {
    const colour = `rgba(213,94,0,${(0.5 * (k + 1)) / trail.length})`;
    dot(pen, ...at(a, b), colour, 2.2);
    dot(pen, ...at(c, d), colour, 1.5);
  });
  const [a, b, c, d] = theta;
  line(pen, [at(0, 0), at(a, b)], { colour: NOISE, width: 5 });
  line(pen, [at(0, 0), at(c, d)], { colour: NOISE, width: 3 });
  dot(pen, ...at(a, b), NOISE, 6);
  dot(pen, ...at(c, d), NOISE, 4.5);
  if (drift) drawDrift(pen, at, lengths[0], drift);
  dot(pen, x0, y0, "#000", 3);
  // Each hand's name beside its middle, on the side away from the other hand.
  const side = a * d - b * c > 0 ? 1 : -1;
  const name = (words, [x, y], way) => {
    const [px, py] = at(0.55 * x, 0.55 * y);
    const by = (13 * way) / Math.hypot(x, y);
    text(pen, words, px - by * y, py - by * x, { align: "center", ground: true });
  };
  name("u₁", [a, b], -side);
  name("u₂", [c, d], side);
  const row = (colour, thick) => (px, py) => line(pen, [[px - 9, py], [px + 9, py]], { colour, width: thick });
  legend(pen, [["rows of U under SGD", row(NOISE, 4)], ["predicted", row("#000", 1.2)]].slice(0, drift ? 2 : 1), 4, 10);
  const after = drift ? `, predicted ${turnsInWords(drift.predicted - since)}` : "";
  text(pen, `${turnsInWords(angle - since)} turns${after}`, 4, height - 10);
}

// In thin black where the drift says that the hands are; where it turns them, and how fast, as an arrow before the long one.
function drawDrift(pen, at, length, { expected: [p, q, r, s], rate }) {
  line(pen, [at(p, q), at(0, 0), at(r, s)], { width: 1.2 });
  for (const end of [at(p, q), at(r, s)]) dot(pen, ...end, "#000", 2.5);
  if (Math.abs(rate) < 5e-3) return;
  const from = Math.atan2(q, p);
  const angles = Array.from({ length: 25 }, (_, k) => from + (k / 24) * 4 * rate);
  const path = angles.map((one) => at(1.12 * length * Math.cos(one), 1.12 * length * Math.sin(one)));
  line(pen, path, { width: 1.5 });
  const [[x, y], [bx, by]] = [path[24], path[22]];
  const way = Math.atan2(y - by, x - bx);
  line(pen, [2.6, 0, -2.6].map((turn) => (turn ? [x + 8 * Math.cos(way + turn), y + 8 * Math.sin(way + turn)] : [x, y])), { width: 1.5 });
}

// The angle in turns against steps, and if it may be seen the predicted one; at each new setting of the noise the prediction starts anew from where the hands are.
function drawAngle(whole, history, isRevealed) {
  const surface = { ...whole, box: { ...whole.box, left: 60 } };
  const { pen, box, height } = surface;
  const end = roundUp(Math.max(history.at(-1).t, 1000));
  const turns = history.flatMap(({ angle, predicted }) => (isRevealed ? [angle, predicted] : [angle])).map((one) => one / (2 * Math.PI));
  const [low, high] = [Math.min(-0.25, ...turns), Math.max(0.25, ...turns)];
  const x = (t) => box.left + (t / end) * (box.right - box.left);
  const y = (angle) => box.bottom - 6 - ((angle / (2 * Math.PI) - low) / (high - low)) * (box.bottom - box.top - 12);
  line(pen, [[box.left, y(0)], [box.right, y(0)]], { colour: "#999", dash: [2, 3] });
  line(pen, history.map(({ t, angle }) => [x(t), y(angle)]), { colour: NOISE, width: 3.5 });
  for (let k = 0, last = 0; isRevealed && k < history.length; k = last) {
    for (last = k; last < history.length && history[last].setting === history[k].setting; last++);
    line(pen, history.slice(k, last).map(({ t, predicted }) => [x(t), y(predicted)]), { width: 1.2 });
  }
  const step = Math.max(0.25, roundUp((high - low) / Math.max(2, (height - 70) / 40)));
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push([y(2 * Math.PI * k * step), inWords(k * step).replace("-", "−")]);
  axes(surface, [[x(0), "0"], [x(end / 2), count(end / 2)]], ticks, "steps", "turns counter-clockwise");
  text(pen, count(end), box.right + 4, box.bottom + 13, { align: "right" });
  const row = (colour, width) => (px, py) => line(pen, [[px - 9, py], [px + 9, py]], { colour, width });
  legend(pen, [["SGD", row(NOISE, 3.5)], ["predicted", row("#000", 1.2)]].slice(0, isRevealed ? 2 : 1), 14, 10);
}

// Where the strips lie: a row for each label.
const stripScale = (box) => {
  const wide = (box.right - box.left) / (2 * REACH);
  const high = (box.bottom - box.top) / 3;
  return {
    x: (value) => (box.left + box.right) / 2 + value * wide,
    y: (row) => box.top + (row + 0.5) * high,
    value: (px) => (px - (box.left + box.right) / 2) / wide,
    row: (py) => Math.floor((py - box.top) / high),
  };
};
const isNarrow = (width) => width < 420; // the words above the strips need two rows
const stripBox = (width, height) => ({ left: 96, top: isNarrow(width) ? ROOM_ABOVE + 18 : ROOM_ABOVE, right: width - 12, bottom: height - 24 });

// For each label the noise, plus and minus its level, as handles; the misfit of now and of the last steps; what it is predicted to be.
function drawStrips({ pen, width, height }, { levels, misfits, trail, deviations }) {
  const box = stripBox(width, height);
  const scale = stripScale(box);
  levels.forEach((level, row) => {
    const y = scale.y(row);
    line(pen, [[box.left, y], [box.right, y]], { colour: "#ddd" });
    line(pen, [[scale.x(-level), y], [scale.x(level), y]], { colour: "#999", dash: [2, 3] });
    for (const { misfits: seen } of trail) dot(pen, scale.x(seen[row]), y, "rgba(213,94,0,.12)", 4);
    dot(pen, scale.x(misfits[row]), y, NOISE, 5);
    const reach = 2 * deviations[row];
    for (const side of [-1, 1]) {
      line(pen, [[scale.x(side * reach), y - 8], [scale.x(side * reach), y + 8]], { width: 1.5 });
      handle(pen, scale.x(side * level), y);
    }
    text(pen, NAMES[row], 4, y);
  });
  for (const value of [-1, -0.5, 0, 0.5, 1]) text(pen, inWords(value).replace("-", "−"), scale.x(value), height - 10, { align: "center" });
  const bracket = (px, py) => [-6, 6].forEach((by) => line(pen, [[px + by, py - 6], [px + by, py + 6]], { width: 1.5 }));
  const entries = [["misfit h − y", (px, py) => dot(pen, px, py, NOISE, 5)], ["predicted ± 2 s.d.", bracket], ["label ± σ (drag)", (px, py) => handle(pen, px, py)]];
  const first = isNarrow(width) ? 2 : 3;
  legend(pen, entries.slice(0, first), 4, 10);
  legend(pen, entries.slice(first), 4, 28);
}

function handle(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 8, 0, 2 * Math.PI);
  [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = ["#fff", "#0072B2", 2.5];
  pen.setLineDash([]);
  pen.fill();
  pen.stroke();
}
