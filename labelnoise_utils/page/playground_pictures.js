// The three pictures of the playground; valley.js and pen.js stand before this in the same function.
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
  text(pen, "widest", flatX - 10, flatY + 15, { align: "right", ground: true });
  text(pen, "uv = 1", x(0.4) + 7, y(1 / 0.4));
  const ticks = Array.from({ length: Math.floor(reach) + 1 }, (_, i) => i);
  axes(surface, ticks.map((k) => [x(k), `${k}`]), ticks.map((k) => [y(k), `${k}`]), "u", "v");
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

// The squared error: both axes logarithmic, so that the fit and the thousands of steps after it are seen together.
function drawError(surface, run) {
  const { pen, box } = surface;
  const points = run.errorHistory.filter(([, error]) => error > 0 && Number.isFinite(error));
  const end = 10 ** Math.ceil(Math.log10(Math.max(run.t, 100)));
  const values = points.length ? points.map(([, error]) => error) : [1];
  const floor = run.diverged ? 0 : settledError(run.parameters, run.now.reg);
  const high = Math.ceil(Math.log10(Math.max(...values)) + 0.05);
  const low = Math.max(high - 8, Math.min(high - 2, Math.floor(Math.log10(Math.min(...values, floor || 1)) - 0.05)));
  const x = (t) => box.left + (Math.log10(t) / Math.log10(end)) * (box.right - box.left);
  const y = (error) => box.bottom - ((Math.max(low, Math.log10(error)) - low) / (high - low)) * (box.bottom - box.top);
  line(pen, points.map(([t, error]) => [x(t), y(error)]), { colour: NOISE, width: 3 });
  const rows = [["mean (uv − 1)²", (px, py) => line(pen, [[px - 10, py], [px + 10, py]], { colour: NOISE, width: 3 })]];
  if (floor > 0) {
    line(pen, [[box.left, y(floor)], [box.right, y(floor)]], { width: 1.2 });
    rows.push(["its floor now, predicted", (px, py) => line(pen, [[px - 10, py], [px + 10, py]], { width: 1.2 })]);
  }
  legend(pen, rows, 4, 10);
  const decades = Array.from({ length: high - low + 1 }, (_, i) => low + i);
  const every = Math.ceil(decades.length / 4);
  const yTicks = decades.filter((k) => (high - k) % every === 0).map((k) => [y(10 ** k), powerOfTen(k)]);
  const last = Math.log10(end);
  const xTicks = Array.from({ length: last + 1 }, (_, k) => k).filter((k) => last < 5 || k % 2 === 0).map((k) => [x(10 ** k), powerOfTen(k)]);
  axes(surface, xTicks, yTicks, "steps t", "squared error");
}
