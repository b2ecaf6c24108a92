// The pictures of the push: a point with its mirror twin, the cloud, and its way. push_terms.js and pen.js stand before this.
const [STEP_COLOUR, SUM_COLOUR] = ["#0072B2", "#009E73"];
const TOP = 3.05; // of the plane

// Equal units on both axes, so that angles are right.
function pushScale(box) {
  const unit = Math.min(box.right - box.left, box.bottom - box.top) / TOP;
  return {
    unit,
    x: (u) => box.left + u * unit, y: (v) => box.bottom - v * unit,
    u: (x) => (x - box.left) / unit, v: (y) => (box.bottom - y) / unit,
  };
}

function arrow(pen, [x0, y0], [x1, y1], { colour, width = 2.5 }) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 1) return;
  const head = Math.min(5 + 1.5 * width, length);
  const [dx, dy] = [((x1 - x0) / length) * head, ((y1 - y0) / length) * head];
  line(pen, [[x0, y0], [x1 - 0.8 * dx, y1 - 0.8 * dy]], { colour, width });
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - dx - 0.45 * dy, y1 - dy + 0.45 * dx);
  pen.lineTo(x1 - dx + 0.45 * dy, y1 - dy - 0.45 * dx);
  pen.fillStyle = colour;
  pen.fill();
}

// The largest of 1, 2, 5, 10, ... that leaves a length below some bound.
function magnified(length, bound, most) {
  if (!(length * most > bound)) return most;
  const power = 10 ** Math.floor(Math.log10(bound / length));
  return power * [5, 2, 1].find((digit) => digit * power * length <= bound);
}

function drawGround(surface, scale, levels) {
  const { pen, box } = surface;
  const { x, y } = scale;
  const curve = (level) => Array.from({ length: 161 }, (_, i) => 12 ** (i / 80 - 1)).map((u) => [x(u), y(level / u)]);
  for (const level of levels) line(pen, curve(level), { colour: "#bbb" });
  line(pen, curve(1), { width: 1.5 });
  line(pen, [[box.left, box.bottom], [x(TOP), y(TOP)]], { colour: "#bbb", dash: [2, 4] });
  ring(pen, x(1), y(1));
}

function finish(surface, scale, uName, vName) {
  const ticks = [0, 1, 2, 3];
  axes(surface, ticks.map((k) => [scale.x(k), `${k}`]), ticks.map((k) => [scale.y(k), `${k}`]), uName, vName);
}

function inside({ pen, box }, draw) {
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  draw();
  pen.restore();
}

// A point across the valley and its twin; the noise of a step is left out, whose mean is zero.
function drawMirror(surface, { foot, distance, mirror }) {
  const { pen, box } = surface;
  const scale = pushScale(box);
  const place = ([u, v]) => [scale.x(u), scale.y(v)];
  const { pair, sum } = mirror;
  const { along } = valleyAt(foot);
  const lengths = pair.map(({ step }) => Math.hypot(...step));
  const factor = magnified(Math.max(...lengths), 0.75, 1000);
  const sumFactor = magnified(Math.hypot(...sum), 0.9, 5000);
  const centre = [foot, 1 / foot];
  const add = ([u, v], [du, dv], times) => [u + times * du, v + times * dv];
  inside(surface, () => {
    drawGround(surface, scale, [0.5, 1.5]);
    const direction = valleyAt(foot).across;
    line(pen, [place(add(centre, direction, -1)), place(add(centre, direction, 1.2))], { colour: GREY, dash: [4, 4] });
    for (const { at, step } of pair) {
      arrow(pen, place(at), place(add(at, step, factor)), { colour: STEP_COLOUR });
      const part = step[0] * along[0] + step[1] * along[1];
      arrow(pen, place(at), place(add(at, along, part * sumFactor)), { colour: SUM_COLOUR, width: 3 });
    }
    arrow(pen, place(centre), place(add(centre, sum, sumFactor)), { colour: "#7a7a7a", width: 1.5 });
    arrow(pen, place(centre), place(add(centre, along, mirror.along * sumFactor)), { colour: SUM_COLOUR, width: 4.5 });
  });
  const [handle, twin] = pair.map(({ at }) => place(at));
  dot(pen, ...handle, STEP_COLOUR, 9);
  dot(pen, ...handle, "#fff", 3);
  dot(pen, ...twin, STEP_COLOUR, 7);
  dot(pen, ...twin, "#fff", 4.5);
  // The errors beside the points, away from the valley's middle, inside the picture.
  [[handle, pair[0]], [twin, pair[1]]].forEach(([[px, py], { error }]) => {
    const words = `e = ${error < 0 ? "−" : "+"}${Math.abs(error).toFixed(2)}`;
    const upper = error >= 0;
    const left = upper ? Math.min(px + 13, box.right - 58) : Math.max(px - 13, box.left + 60);
    if (distance) text(pen, words, left, upper ? py - 9 : Math.min(py + 9, box.bottom - 9), { align: upper ? "left" : "right", ground: true });
  });
  text(pen, "uv = 1", scale.x(0.36) + 6, scale.y(2.85), { ground: true });
  text(pen, "u = v", scale.x(2.6), scale.y(2.83), { align: "center", colour: GREY, ground: true });
  finish(surface, scale, "u", "v");
  const steps = (x, y) => arrow(pen, [x - 9, y], [x + 9, y], { colour: STEP_COLOUR });
  const down = (x, y) => arrow(pen, [x - 9, y], [x + 9, y], { colour: SUM_COLOUR, width: 4.5 });
  const all = (x, y) => arrow(pen, [x - 9, y], [x + 9, y], { colour: "#7a7a7a", width: 1.5 });
  legend(pen, [[`a step, × ${count(factor)}`, steps], [`their sum, × ${count(sumFactor)}`, all]], 2, 10);
  legend(pen, [[`of each the part along the valley, × ${count(sumFactor)}`, down]], 2, 28);
}

function drawCloud(surface, { cloud, hasPrediction, valleys }) {
  const { pen, box } = surface;
  const scale = pushScale(box);
  const place = (u, v) => [scale.x(u), scale.y(v)];
  inside(surface, () => {
    drawGround(surface, scale, []);
    for (const level of valleys) {
      const curve = Array.from({ length: 161 }, (_, i) => 12 ** (i / 80 - 1)).map((u) => place(u, level / u));
      line(pen, curve, { colour: NOISE, dash: [5, 4] });
    }
    pen.globalAlpha = 0.45;
    for (let i = 0; i < cloud.u.length; i++) if (!cloud.lost[i]) dot(pen, ...place(cloud.u[i], cloud.v[i]), NOISE, 2);
    pen.globalAlpha = 1;
    const way = smoothed(cloud.way).map((at) => place(...at));
    line(pen, way, { colour: "#fff", width: 4.5 });
    line(pen, way, { colour: NOISE, width: 2.5 });
    if (hasPrediction) {
      const { expected: f } = cloud;
      const [x, y] = place(f, 1 / f);
      for (const colour of ["#fff", "#000"]) {
        const width = colour === "#fff" ? 5 : 2;
        line(pen, [[x - 7, y - 7], [x + 7, y + 7]], { colour, width });
        line(pen, [[x - 7, y + 7], [x + 7, y - 7]], { colour, width });
      }
    }
  });
  const [, , lost] = cloud.mean();
  if (lost) text(pen, `${count(lost)} have left`, box.right - 4, box.top + 10, { align: "right", ground: true });
  finish(surface, scale, "u", "v");
  const cross = (x, y) => {
    for (const side of [1, -1]) line(pen, [[x - 5, y - 5 * side], [x + 5, y + 5 * side]], { width: 2 });
  };
  legend(pen, [["a run", (x, y) => dot(pen, x, y, NOISE, 2.5)],
    ["their mean", (x, y) => line(pen, [[x - 8, y], [x + 8, y]], { colour: NOISE, width: 2.5 })]], 2, 10);
  if (hasPrediction) legend(pen, [["predicted mean", cross]], 2, 28);
}

// How far the mean has moved along the valley, downhill, against steps.
function drawWay(surface, { cloud, hasPrediction }) {
  const { pen, box } = surface;
  const { history } = cloud;
  const end = roundUp(Math.max(cloud.t, 100));
  const largest = Math.max(0.05, ...history.map(([, moved, expected]) => Math.max(moved, hasPrediction ? expected : 0)));
  const high = 1.15 * largest;
  const low = Math.min(-0.1 * high, ...history.map(([, moved]) => moved));
  const x = (t) => box.left + (t / end) * (box.right - box.left);
  const y = (way) => box.bottom - ((way - low) / (high - low)) * (box.bottom - box.top);
  line(pen, [[box.left, y(0)], [box.right, y(0)]], { colour: "#ccc" });
  line(pen, history.map(([t, moved]) => [x(t), y(moved)]), { colour: NOISE, width: 3.5 });
  if (hasPrediction) line(pen, history.map(([t, , expected]) => [x(t), y(expected)]), { width: 1.2 });
  const tick = roundUp(high / 2.5);
  const marks = [0, 1, 2, 3].map((k) => k * tick).filter((way) => way < high);
  axes(surface, [[x(0), "0"], [x(end / 2), count(end / 2)]], marks.map((way) => [y(way), inWords(way)]), "steps", "downhill");
  text(pen, count(end), box.right + 4, box.bottom + 13, { align: "right" });
}
