// A round cloud that drifts along a valley in space. three_parameters.js, pen.js, stage.js, turn.js and space_valley.js
// stand before this in the same function.
const [LOW_REG, HIGH_REG] = [[170, 205, 235], [8, 48, 107]]; // colours of the valley
const CENTRE = [1.4, 0.8, 0];
const FLOOR = -1.3;
const ENDS = [-0.9, 1.318]; // angles between which the valley is drawn
const START_VIEW = { turn: 0.55, tilt: 0.45 };

function makeSpace(root, settings, controls) {
  const [space, fall] = root.querySelectorAll("canvas");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const model = makeThreeParameters();
  const view = { ...START_VIEW, touched: false };
  const start = angleOf(settings.u);
  const valley = Array.from({ length: 121 }, (_, k) => ENDS[0] + ((ENDS[1] - ENDS[0]) * k) / 120);
  let [cloud, values] = [null, null];

  const restart = (chosen, seed) => {
    values = chosen;
    cloud = makeSpaceCloud(model, start, { ...settings, noiseStd: chosen.noise_std, seed });
  };
  const change = (name, chosen) => {
    values = chosen;
    return name === "view";
  };

  // From the end of the valley that the cloud comes from, along it: the disc is seen from its side that is round.
  const alongTheValley = () => {
    const [a, b, c] = tangentAt(cloud.angle).map((x) => -x);
    return { turn: Math.atan2(a, b), tilt: Math.atan2(-c, Math.hypot(a, b)) };
  };

  // In a corner the same cloud seen along the valley, with a circle of twice the predicted width.
  const drawDisc = ({ pen, width, height }) => {
    const [radius, ring] = [44, 24];
    const [x, y] = [width - radius - 6, height - radius - 22];
    const magnified = ring / (2 * Math.sqrt(settings.lr) * values.noise_std);
    const project = makeProjection(alongTheValley(), { width: 2 * x, height: 2 * y }, spaceAt(cloud.angle), magnified);
    pen.save();
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = ["#fff", "#999", 1];
    pen.fill();
    pen.stroke();
    pen.clip();
    for (const theta of cloud.runs) {
      const { x: px, y: py } = project([...theta]);
      dot(pen, px, py, NOISE, 1.5);
    }
    pen.restore();
    pen.beginPath();
    pen.arc(x, y, ring, 0, 2 * Math.PI);
    [pen.strokeStyle, pen.lineWidth] = ["#000", 1.2];
    pen.stroke();
    text(pen, "along the valley", x, height - 10, { align: "center" });
  };

  const drawSpace = (surface) => {
    const { pen, width, height } = surface;
    const along = values.view === "along";
    const unit = Math.min(width / 3.7, height / 4);
    const project = along
      ? makeProjection(alongTheValley(), surface, spaceAt(cloud.angle), 3 * unit)
      : makeProjection(view, surface, CENTRE, unit);
    const path = (points, style) => line(pen, points.map(project).map(({ x, y }) => [x, y]), style);
    if (!along) {
      for (let k = 0; k <= 5; k++) path([[k / 2, 0, FLOOR], [k / 2, 1.5, FLOOR]], { colour: "#ddd" });
      for (let k = 0; k <= 3; k++) path([[0, k / 2, FLOOR], [2.5, k / 2, FLOOR]], { colour: "#ddd" });
      path([[0, 0, FLOOR], [0, 0, 1.5]], { colour: "#999" });
      for (const [at, name] of [[[2.75, 0, FLOOR], "u"], [[0, 1.75, FLOOR], "v"], [[0, 0, 1.65], "w"]]) {
        const { x, y } = project(at);
        text(pen, name, x, y, { align: "center" });
      }
      // Shadows on the floor say where in space a thing is.
      const shadow = (at) => [at[0], at[1], FLOOR];
      path(valley.map((p) => shadow(spaceAt(p))), { colour: "#ccc", width: 2 });
      for (const theta of cloud.runs) {
        const { x, y } = project(shadow(theta));
        dot(pen, x, y, "rgba(0,0,0,.08)", 2);
      }
    }
    // Pieces of the valley and runs, the farthest first; near ones are wider.
    const pieces = valley.slice(1).map((p, k) => {
      const [from, to] = [valley[k], p].map((angle) => project(spaceAt(angle)));
      return { depth: (from.depth + to.depth) / 2, draw: () => {
        const high = (spaceReg(p) - 5) / 3;
        line(pen, [[from.x, from.y], [to.x, to.y]], { colour: mixed(LOW_REG, HIGH_REG, high), width: 4.5 * to.size ** 2 });
      } };
    });
    const dots = Array.from(cloud.runs, (theta) => {
      const { x, y, depth, size } = project([...theta]);
      return { depth, draw: () => dot(pen, x, y, mixed([213, 94, 0], [245, 190, 150], (depth + 0.8) / 2.2), (along ? 3 : 2.4) * size) };
    });
    for (const one of [...pieces, ...dots].sort((a, b) => b.depth - a.depth)) one.draw();
    if (along) {
      // Twice the predicted standard deviation, the same in every direction.
      pen.beginPath();
      pen.arc(width / 2, height / 2, 6 * unit * Math.sqrt(settings.lr) * values.noise_std, 0, 2 * Math.PI);
      [pen.strokeStyle, pen.lineWidth] = ["#000", 1.2];
      pen.stroke();
    } else {
      for (const side of [1, -1]) {
        const { x, y } = project(spaceAt((side * Math.PI) / 4));
        ring(pen, x, y);
      }
    }
    if (!along) {
      path(smoothed(cloud.way), { colour: "#000", width: 1.5 });
      if (values.noise_std && !cloud.diverged) drawDisc(surface);
    }
    const row = (colour) => (x, y) => line(pen, [[x - 8, y], [x + 8, y]], { colour, width: 4 });
    legend(pen, [["valley, dark: more reg", row(mixed(LOW_REG, HIGH_REG, 0.8))], ["a run", (x, y) => dot(pen, x, y, NOISE, 3)]], 2, 10);
    if (along) {
      text(pen, "circle: twice the predicted width √lr σ", 2, 30);
    } else {
      legend(pen, [["mean", (x, y) => line(pen, [[x - 8, y], [x + 8, y]], { width: 1.5 })],
        ["least reg", (x, y) => ring(pen, x, y)]], 2, 30);
    }
  };

  const drawFall = (surface) => {
    const { pen, box } = surface;
    const end = roundUp(Math.max(cloud.t, 100));
    const [low, high] = [4.8, Math.max(5.5, spaceReg(start) + 0.2)];
    const x = (t) => box.left + (t / end) * (box.right - box.left);
    const y = (reg) => box.bottom - ((reg - low) / (high - low)) * (box.bottom - box.top);
    const history = [[0, spaceReg(start), spaceReg(start)], ...cloud.history];
    line(pen, history.map(([t, reg]) => [x(t), y(reg)]), { colour: NOISE, width: 3.5 });
    line(pen, history.map(([t, , reg]) => [x(t), y(reg)]), { width: 1.2 });
    line(pen, [[box.left, y(5)], [box.right, y(5)]], { colour: "#999", dash: [2, 3] });
    const ticks = [5, 6, 7, 8].filter((reg) => reg < high);
    axes(surface, [[x(0), "0"], [x(end / 2), count(end / 2)]], ticks.map((reg) => [y(reg), `${reg}`]), "steps", "reg on the valley");
    text(pen, count(end), box.right + 4, box.bottom + 13, { align: "right" });
    legend(pen, [["nearest to the mean", (px, py) => line(pen, [[px - 8, py], [px + 8, py]], { colour: NOISE, width: 3.5 })]], 2, 10);
    legend(pen, [["predicted: −lr² σ² grad reg", (px, py) => line(pen, [[px - 8, py], [px + 8, py]], { width: 1.2 })]], 2, 30);
  };

  const draw = () => {
    const now = performance.now();
    // By itself it turns slowly to and fro, until somebody turns it.
    if (!still && !view.touched) view.turn = START_VIEW.turn + 0.5 * Math.sin((now / 1000) * 0.4);
    const [one, two] = [clear(space), clear(fall, 44)];
    if (one) drawSpace(one);
    if (two) drawFall(two);
  };
  // A hand that turns the view along the valley leaves it, from where it is.
  makeTurnable(space, view, (by) => {
    if (values.view === "along") {
      const { turn, tilt } = alongTheValley();
      [view.turn, view.tilt] = [turn + by[0], tilt + by[1]];
      controls.inputs.find((one) => one.name === "view").value = "side";
      values = controls.values();
    }
    draw();
  });

  const words = () => {
    const at = `After ${count(cloud.t)} steps: `;
    if (cloud.diverged) return `${at}it has diverged: the noise is too large for the learning rate. Less noise, or start again.`;
    const reg = `reg ${spaceReg(start).toFixed(2)} → ${spaceReg(cloud.angle).toFixed(2)}, least 5`;
    if (!values.noise_std) return `${at}no noise, no cloud, and nothing moves: every point of the valley is at rest. ${reg}.`;
    const [wide, narrow] = cloud.widths();
    const round = `across the valley the cloud is ${wide.toFixed(3)} by ${narrow.toFixed(3)} wide, predicted ` +
      `√lr σ = ${(Math.sqrt(settings.lr) * values.noise_std).toFixed(3)} in every direction`;
    const phase = spaceReg(cloud.angle) < 5.02 ? "it has come to the least reg and stays" : "along it the cloud drifts to where reg is less";
    return `${at}${round}; ${phase}: ${reg}.`;
  };

  return {
    restart, change, draw, words,
    advance: (steps) => cloud.advance(steps),
    pace: () => (cloud.t < 60 ? 0.5 : Math.min(80, cloud.t / 90)),
    isOver: () => cloud.diverged || cloud.t >= settings.horizon / (values.noise_std || 1) ** 2,
    labels: () => {
      const [u, v, w] = spaceAt(cloud.angle).map(inWords);
      const how = values.view === "along" ? "seen along the valley" : "seen from the side; arrow keys turn it";
      return [
        `Space of u, v and w, ${how}: the valley as a curve, dark where reg is large, and ${count(cloud.runs.length)} runs as orange dots ` +
          `around u = ${u}, v = ${v}, w = ${w}. Circles on the curve at u = v = 1, w = ±1, where reg is least.`,
        `Reg on the valley nearest to the mean, against steps: from ${spaceReg(start).toFixed(2)} to ${spaceReg(cloud.angle).toFixed(2)} ` +
          `after ${count(cloud.t)} steps; predicted ${spaceReg(cloud.expected).toFixed(2)}.`,
      ];
    },
    report: () => ({
      t: cloud.t, runs: cloud.runs.map((theta) => [...theta]), mean: cloud.mean(), angle: cloud.angle, expected: cloud.expected,
      reg: spaceReg(cloud.angle), predicted: spaceReg(cloud.expected), widths: cloud.widths(), turn: view.turn, tilt: view.tilt,
      diverged: cloud.diverged,
    }),
  };
}

setUpAll("space", (root) => makeStage(root, makeSpace));
