// Units of a sigmoidal network on one data point, x = 1: their places, their outputs, and which classes they form. The
// engine, pen.js, stage.js and units_law.js stand before this in the same function.
const PLAIN = "#0072B2";

function makeUnits(root, settings, controls) {
  const [plane, outputs] = root.querySelectorAll("canvas");
  const top = Math.max(...JSON.parse(controls.inputs.find((one) => one.name === "y").dataset.values));
  let run;

  const restart = (values, seed) => {
    const { width, activation } = values;
    const model = makeTwoLayerSigmoidal({ width, dim: 1, activation });
    const nextWord = makeWords(seed);
    run = {
      model, nextWord, width, activation, values, t: 0, since: 0, tol: 0, error: 0, reg: 0,
      lr: settings.lr[activation],
      theta: model.start(makeNormals(nextWord)),
      data: { x: Float64Array.of(1), y: Float64Array.of(values.y), n: 1, dim: 1 },
      range: activation === "tanh" ? 2.5 : 3,
    };
    change("noise_std", values);
    run.firstReg = model.reg(run.theta, run.data);
    look(0);
  };

  // What needs no new start: a new label or noise. The pace begins slowly again.
  const change = (name, values) => {
    if (name !== "y" && name !== "noise_std") return false;
    run.values = values;
    run.data.y[0] = values.y;
    run.since = 0;
    // What the noise cannot tell apart; without noise, what the noise could not that was there at first.
    run.tol = Math.sqrt(run.lr) * (values.noise_std || settings.noiseStd || 1);
    return true;
  };

  // Means of error and reg over about the last third of the steps since something was changed.
  const look = (steps) => {
    const part = run.since ? Math.min(1, Math.max(0.02, (3 * steps) / run.since)) : 1;
    run.error += part * (run.model.loss(run.theta, run.data) - run.error);
    run.reg += part * (run.model.reg(run.theta, run.data) - run.reg);
  };
  const advance = (steps) => {
    const { model, theta, data, lr, nextWord, values } = run;
    for (let left = steps; left > 0; left -= 512) {
      const piece = Math.min(left, 512);
      for (let k = 0; k < piece; k++) model.step(theta, data, 0, values.noise_std * meanSign(nextWord, 1), lr);
      run.t += piece;
      run.since += piece;
      look(piece);
    }
  };

  const units = () => Array.from(run.model.hidden(run.theta, run.data, 0), (h, i) => {
    const c = run.theta[run.width + i];
    return { c, h, o: c * h };
  });
  const isTanh = () => run.activation === "tanh";
  const horizon = () => settings.horizon[run.activation] / (run.lr * (run.values.noise_std || 1)) ** 2;
  const isFitting = () => {
    const pull = Math.min(0.9, run.lr * run.reg);
    return run.error > 3 * run.values.noise_std ** 2 * (pull / (1 - pull)) + 1e-6;
  };

  const several = (n, one, more) => (n === 1 ? `one ${one}` : `${n || "no"} ${more}`);
  const partition = () => {
    const { active, silent } = classesOf(units(), run.tol, isTanh());
    const many = run.width - silent.length;
    if (isTanh()) return several(many, "active unit", "active units") + (silent.length ? `, ${silent.length} silent` : ", none silent");
    const sizes = [...active.map((one) => one.length), silent.length].filter(Boolean).sort((a, b) => b - a);
    return `the ${run.width} units in ${several(sizes.length, "class", "classes")}${sizes.length > 1 ? `, ${sizes.join(" + ")}` : ""}`;
  };
  const words = () => {
    const at = `Step ${count(run.t)}: `;
    if (!Number.isFinite(run.reg)) return `${at}it has diverged. Less noise, or a new start.`;
    const costs = minima(run.values.y, run.width, run.activation).map((one) => {
      const reg = one.reduce((sum, [o, n]) => sum + n * costOf(o, run.activation), 0);
      const [[, first], [, rest] = [0, 0]] = one;
      if (isTanh()) return `${inWords(reg)} with one active unit`;
      return `${inWords(reg)} ${first === run.width ? "with all alike" : `with ${first} + ${rest}`}`;
    });
    const quiet = run.values.noise_std ? "the error is at its floor" : "the error is gone, and without noise nothing moves";
    const phase = isFitting() ? `fitting, squared error ${inWords(run.error)}` : quiet;
    return `${at}${phase}; ${partition()}. reg = ${inWords(run.reg)}, at the start ${inWords(run.firstReg)}; ` +
      `its minimum for y = ${inWords(run.values.y)}: ${costs.join(", or ")}.`;
  };

  const drawPlane = (surface) => {
    const { pen, box } = surface;
    const all = units();
    const marks = minima(run.values.y, run.width, run.activation);
    const reach = Math.max(...all.map(({ c }) => Math.abs(c)), ...marks[0].map(([o]) => (o ? Math.abs(placeOf(o, run.activation).c) : 0)));
    if (reach * 1.1 > run.range || reach * 1.6 < run.range) run.range = Math.min(50, Math.max(2.5, Math.ceil(2.4 * reach) / 2));
    const low = isTanh() ? -1.08 : -0.06;
    const x = (c) => box.left + ((c + run.range) / (2 * run.range)) * (box.right - box.left);
    const y = (h) => box.bottom - ((h - low) / (1.08 - low)) * (box.bottom - box.top);
    line(pen, [[x(-run.range), y(0)], [x(run.range), y(0)]], { colour: "#ccc" });
    line(pen, [[x(0), y(low)], [x(0), y(1.08)]], { colour: "#ccc" });
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.clip();
    const curve = Array.from({ length: 161 }, (_, k) => placeOf(10 ** (k / 32 - 3), run.activation));
    const mirrors = isTanh() ? [[1, 1], [-1, 1], [1, -1], [-1, -1]] : [[1, 1], [-1, 1]];
    for (const [a, b] of mirrors) line(pen, curve.map(({ c, h }) => [x(a * c), y(b * h)]), { colour: "#000", width: 0.8 });
    const { silent } = classesOf(all, run.tol, isTanh());
    all.forEach(({ c, h }, i) => dot(pen, x(c), y(h), silent.includes(i) ? GREY : NOISE, 4.5));
    for (const mark of marks) {
      for (const [o] of mark) {
        if (o === 0) {
          for (const side of [-1, 1]) line(pen, [[x(0) - 9, y(0) - 9 * side], [x(0) + 9, y(0) + 9 * side]], { width: 2 });
          continue;
        }
        const { c, h } = placeOf(o, run.activation);
        if (c > run.range) text(pen, `to c = ${inWords(c)} →`, box.right - 4, y(h) - 10, { align: "right", ground: true });
        for (const side of isTanh() ? [1, -1] : [1]) ring(pen, x(side * c), y(side * h));
      }
    }
    pen.restore();
    const step = run.range > 20 ? 10 : run.range > 8 ? 5 : run.range > 3 ? 2 : 1;
    const ticks = [-3, -2, -1, 0, 1, 2, 3].map((k) => k * step).filter((c) => Math.abs(c) <= run.range);
    const rows = isTanh() ? [-1, -0.5, 0, 0.5, 1] : [0, 0.5, 1];
    axes(surface, ticks.map((c) => [x(c), `${c}`]), rows.map((h) => [y(h), `${h}`]), "output weight c", `h = ${run.activation}(w)`);
    legend(pen, [["a unit", (px, py) => dot(pen, px, py, NOISE, 4.5)], ["silent", (px, py) => dot(pen, px, py, GREY, 4.5)],
      ["the minimum of reg", (px, py) => ring(pen, px, py)]], box.left - 36, 10);
  };

  // From the output axis, where the hand is, to the label.
  const outputScale = ({ box }) => {
    const all = units().map(({ o }) => o);
    const [low, high] = [Math.min(-0.5, ...all.map((o) => Math.max(o, -3))), Math.max(1.12 * top, 0)];
    return {
      y: (o) => box.bottom - ((o - low) / (high - low)) * (box.bottom - box.top),
      o: (y) => low + ((box.bottom - y) / (box.bottom - box.top)) * (high - low),
    };
  };
  const drawOutputs = (surface) => {
    const { pen, box } = surface;
    const { y } = outputScale(surface);
    const all = units();
    const right = box.right - 26; // beside them stands the handle
    const wide = (right - box.left) / run.width;
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, right - box.left, box.bottom - box.top);
    pen.clip();
    const { silent } = classesOf(all, run.tol, isTanh());
    all.forEach(({ o }, i) => {
      pen.fillStyle = silent.includes(i) ? GREY : NOISE;
      pen.fillRect(box.left + wide * (i + 0.12), Math.min(y(0), y(o)), 0.76 * wide, Math.max(1, Math.abs(y(o) - y(0))));
    });
    pen.restore();
    line(pen, [[box.left, y(0)], [box.right, y(0)]], { colour: GREY });
    const level = y(run.values.y);
    line(pen, [[box.left, level], [right, level]], { width: 1.5, dash: [5, 3] });
    dot(pen, box.right - 12, level, PLAIN, 9);
    text(pen, `y = ${inWords(run.values.y)}`, right - 4, level - 11, { align: "right", ground: true });
    axes(surface, [], [-3, -2, -1, 0, 1, 2, 3].filter((o) => y(o) <= box.bottom).map((o) => [y(o), `${o}`]), `the ${run.width} units`, "output c h of a unit");
    text(pen, "The outputs add up to the label y. Drag it.", box.left - 36, 10);
  };

  makeDraggable(outputs, (px, py) => {
    const box = makeBox(outputs.clientWidth, outputs.clientHeight, 28);
    return px > box.left && Math.abs(py - outputScale({ box }).y(run.values.y)) < 22;
  }, (px, py) => {
    const box = makeBox(outputs.clientWidth, outputs.clientHeight, 28);
    root.dispatchEvent(new CustomEvent("dragged", { detail: { name: "y", value: outputScale({ box }).o(py) } }));
  });

  return {
    restart, change, advance, words,
    pace: () => (run.since < 30 ? 0.5 : Math.max(1, run.since / 60)),
    isOver: () => run.since >= horizon() || !Number.isFinite(run.theta[0]),
    draw: () => {
      const [left, right] = [clear(plane, 28), clear(outputs, 28)];
      if (left) drawPlane(left);
      if (right) drawOutputs(right);
    },
    labels: () => {
      const { active, silent } = classesOf(units(), run.tol, isTanh());
      const [place] = minima(run.values.y, run.width, run.activation).map(([[o]]) => placeOf(o, run.activation));
      return [
        `Plane of output weight c and value h at step ${count(run.t)}: ${run.width} units as dots, ${silent.length} of them at the ` +
          `origin, silent, the others in ${active.length} places. The minimum of reg has a unit at c = ${inWords(place.c)}, h = ${inWords(place.h)}.`,
        `Outputs c h of the units as bars; the largest is ${inWords(Math.max(...units().map(({ o }) => o)))}. The label, y = ${inWords(run.values.y)}, is a dashed line that can be dragged.`,
      ];
    },
    report: () => ({
      t: run.t, theta: [...run.theta], units: units(), tol: run.tol, y: run.values.y, lr: run.lr, width: run.width,
      ...classesOf(units(), run.tol, isTanh()), minima: minima(run.values.y, run.width, run.activation),
    }),
  };
}

setUpAll("units", (root) => makeStage(root, makeUnits));
