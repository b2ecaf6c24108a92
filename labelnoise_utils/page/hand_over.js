// The hand-over under the reader's hand: the level, the function, and reg that pulls the level. engine/hand_over.js, pen.js and
// stage.js stand before this in the same function.
const [UNIT_A, UNIT_B] = ["#CC79A7", "#009E73"];
const [LEFT, RIGHT, LOW, HIGH] = [0.06, 0.46, -1.0, -0.1]; // of the first picture

function makeHandOverScene(root, settings, controls) {
  const [picture, valley] = root.querySelectorAll("canvas");
  const { x, y, levels: [least, most], concave, step, horizon } = settings;
  const chart = makeHandOver({ x, y });
  const curve = Array.from({ length: 97 }, (_, i) => least + (i / 96) * (most - least)).map((level) => [level, chart.reg(chart.best(level))]);
  const [bottom, top] = [Math.min(...curve.map(([, reg]) => reg)), Math.max(...curve.map(([, reg]) => reg))];
  let state; // { at: (c_A, c_B, a, level), t }

  const put = (level) => {
    state = { at: chart.best(level), t: 0 };
  };
  const level = () => state.at[3];
  const changes = () => {
    if (Math.abs(level() - concave) < 5e-4) return 0;
    return level() < concave ? 2 : 1;
  };
  const speed = () => chart.velocity(state.at)[3];

  const pictureScale = (box) => {
    const [across, up] = [(box.right - box.left) / (RIGHT - LEFT), (box.bottom - box.top) / (HIGH - LOW)];
    return { x: (t) => box.left + (t - LEFT) * across, y: (v) => box.bottom - (v - LOW) * up, level: (py) => -(LOW + (box.bottom - py) / up) };
  };
  const valleyScale = (box) => {
    const [across, up] = [(box.right - box.left) / (most - least), (box.bottom - box.top - 12) / (top - bottom)];
    return { x: (l) => box.left + (l - least) * across, y: (r) => box.bottom - 8 - (r - bottom) * up, level: (px) => least + (px - box.left) / across };
  };
  const boxOf = (canvas) => makeBox(canvas.clientWidth, canvas.clientHeight, 14);
  const drag = (value) => {
    const within = Math.max(least, Math.min(most, value));
    root.dispatchEvent(new CustomEvent("dragged", { detail: { name: "level", value: within } }));
  };
  makeDraggable(picture, (px, py) => Math.abs(py - pictureScale(boxOf(picture)).y(-level())) < 18, (px, py) => drag(pictureScale(boxOf(picture)).level(py)));
  makeDraggable(valley, (px, py) => {
    const scale = valleyScale(boxOf(valley));
    return Math.hypot(px - scale.x(level()), py - scale.y(chart.reg(state.at))) < 24;
  }, (px) => drag(valleyScale(boxOf(valley)).level(px)));

  const drawPicture = (surface) => {
    const { pen, box } = surface;
    const scale = pictureScale(box);
    const [off, on] = chart.kinks(level());
    const at = (t) => [scale.x(t), scale.y(Math.max(chartValue(t), LOW))];
    const chartValue = (t) => Math.min(0, -level() + (t < off ? chart.lineAt.B(t) + level() : 0) + (t > on ? chart.lineAt.A(t) + level() : 0));
    line(pen, [[box.left, scale.y(-level())], [box.right, scale.y(-level())]], { colour: NOISE, dash: [6, 4], width: 1.5 });
    pen.globalAlpha = 0.45;
    line(pen, [[scale.x(LEFT), scale.y(chart.lineAt.B(LEFT))], [scale.x(off), scale.y(-level())]], { colour: UNIT_B, width: 8 });
    const end = Math.min(RIGHT, x[4] + (LOW - y[4]) / chart.slopes.A);
    line(pen, [[scale.x(on), scale.y(-level())], [scale.x(end), scale.y(chart.lineAt.A(end))]], { colour: UNIT_A, width: 8 });
    pen.globalAlpha = 1;
    const places = Array.from({ length: 201 }, (_, i) => LEFT + (i / 200) * (end - LEFT));
    line(pen, [...places, off, on].filter((t) => t <= end).sort((a, b) => a - b).map(at), { width: 1.5 });
    for (let j = 2; j < 5; j++) dot(pen, scale.x(x[j]), scale.y(y[j]), "#000", 5);
    text(pen, "B", scale.x(0.13), scale.y(chart.lineAt.B(0.13)) - 16, { colour: UNIT_B, ground: true });
    text(pen, "A", scale.x(0.425) + 12, scale.y(chart.lineAt.A(0.425)), { colour: UNIT_A, ground: true });
    text(pen, "level", box.right - 4, scale.y(-level()) - 10, { align: "right", colour: NOISE, ground: true });
    axes(surface, [0.1, 0.2, 0.3, 0.4].map((t) => [scale.x(t), inWords(t)]), [-1, -0.8, -0.6, -0.4, -0.2].map((v) => [scale.y(v), inWords(v)]), "input x", "f(x)");
  };
  const drawValley = (surface) => {
    const { pen, box } = surface;
    const scale = valleyScale(box);
    line(pen, [[scale.x(concave), box.top], [scale.x(concave), box.bottom]], { colour: "#bbb" });
    text(pen, "concave", scale.x(concave) - 4, box.top + 8, { align: "right", colour: GREY });
    line(pen, curve.map(([l, r]) => [scale.x(l), scale.y(r)]), { width: 1.5 });
    dot(pen, scale.x(level()), scale.y(chart.reg(state.at)), NOISE, 7);
    const ticks = [0.3, 0.35, 0.4, 0.45, 0.5].filter((l) => l >= least && l <= most);
    const heights = [6.288, 6.29, 6.292, 6.294, 6.296, 6.298].filter((r) => r >= bottom && r <= top);
    axes(surface, ticks.map((l) => [scale.x(l), String(l)]), heights.map((r) => [scale.y(r), r.toFixed(3)]), "level", "");
    text(pen, "reg", box.left + 6, box.top + 2);
  };

  return {
    restart: (values, seed) => {
      put(seed ? settings.starts[(seed - 1) % settings.starts.length] : values.level);
      controls.set("level", level());
    },
    change: (name, values) => {
      put(values.level);
      return true;
    },
    advance: (steps) => {
      for (let k = 0; k < steps; k++) state.at = chart.advance(state.at, step);
      state.t += steps;
      if (steps) controls.set("level", level());
    },
    pace: () => 3,
    isOver: () => state.t >= horizon || Math.abs(speed()) < 2e-5,
    draw: () => {
      const [one, two] = [clear(picture, 14), clear(valley, 14)];
      if (one) drawPicture(one);
      if (two) drawValley(two);
    },
    words: () => {
      const [[off, on], [down, up]] = [chart.kinks(level()), chart.pulls(state.at)];
      const place = ["they meet, and f is concave", "both are on in between: one needless change of convexity", "between them f rests: two needless changes of convexity"][changes()];
      const pull = Math.abs(down - up) < 5e-4 ? "they balance" : `the level ${down > up ? "falls" : "rises"}`;
      return `Level ${level().toFixed(3)}: B goes off at x = ${off.toFixed(3)}, A comes on at ${on.toFixed(3)}; ${place}. ` +
        `B pulls the level down by ${down.toFixed(3)}, A up by ${up.toFixed(3)}: ${pull}.`;
    },
    labels: () => [
      `A function through three points, and a level line at ${(-level()).toFixed(3)}, which can be dragged. Unit B comes down to it from the ` +
        `left, unit A goes down from it on the right. Needless changes of convexity: ${changes()}.`,
      `Reg against the level, a valley, with a point at level ${level().toFixed(3)}, which can be dragged, and a line at ${concave}, where f is concave.`,
    ],
    report: () => ({
      t: state.t, at: [...state.at], reg: chart.reg(state.at), gradient: chart.gradient(state.at), theta: chart.theta(state.at),
      velocity: chart.velocity(state.at), kinks: chart.kinks(level()), changes: changes(), pulls: chart.pulls(state.at),
    }),
  };
}

setUpAll("hand-over", (root) => makeStage(root, makeHandOverScene));
