// Networks on a line that a worker trains while one moves the points. pen.js, stage.js, network_pictures.js, network_words.js,
// network_link.js, noise_floor.js, dots.js, drive.js, engine/port.js and the
// function engine stand before this in the same function.
const MOST_POINTS = 40;
const LIMIT = 1000; // of a residual, where labels are about 1: beyond it units die and a line is left, or nothing is

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const byX = (one, other) => one[0] - other[0];

function setUpNetwork(root) {
  const isFirst = root === document.querySelector(".labelnoise-network"); // the one that the address speaks of
  const settings = JSON.parse(root.dataset.settings);
  const controls = readControls(root);
  const preset = root.querySelector("select");
  const [picture, ...plots] = root.querySelectorAll("canvas");
  const [play, again, noiseSwitch, add, remove] = root.querySelectorAll(".labelnoise-buttons button");
  const readout = root.querySelector(".labelnoise-readout");
  const speed = root.querySelector(".labelnoise-speed");
  const chosen = (name) => controls.values()[name];

  let points = [];
  let noiseIsOn = settings.noiseIsOn;
  let selected = null; // the point that was touched last
  let shown = null; // { runs, first, settled, histories, isAutomatic }

  const data = () => {
    const sorted = [...points].sort(byX);
    return { x: Float64Array.from(sorted, ([x]) => x), y: Float64Array.from(sorted, ([, y]) => y), n: sorted.length, dim: 1 };
  };
  const noises = () => [{ noiseStd: noiseIsOn ? chosen("noise_std") : 0 }, { noiseStd: 0 }];
  const rate = () => (chosen("lr") ? { lr: chosen("lr") } : { pull: settings.pull, most: settings.most });

  const draw = () => {
    if (!shown) return;
    const surface = clear(picture, 24);
    if (surface) drawFunctions(surface, shown.runs);
    [
      { of: "loss", name: "training error", floor: 1e-6 },
      { of: "reg", name: "reg" },
      { of: "changes", name: "convexity changes", isCount: true },
    ].forEach((what, number) => {
      const plot = clear(plots[number], 24);
      if (plot) drawHistory(plot, shown.histories, what);
    });
  };

  const tell = (moves, steps) => {
    play.textContent = moves ? "Pause" : "Start";
    const [noisy, plain] = shown.runs;
    readout.textContent = narrate(shown);
    speed.textContent = moves && steps ? `${count(steps)} ${steps === 1 ? "step" : "steps"} a frame` : "standing still";
    picture.setAttribute("aria-label", `Functions of two networks through ${points.length} points at step ${count(noisy.t)}: ` +
      `with label noise, orange, ${noisy.changes} changes between convex and concave; without, blue and dashed, ${plain.changes}.`);
    plots.forEach((plot, number) => {
      const [of, name] = [["loss", "Training error"], ["reg", "reg"], ["changes", "Convexity changes"]][number];
      plot.setAttribute("aria-label", `${name} against steps, on a log scale: with label noise ${twoDigits(noisy[of])}, ` +
        `without ${twoDigits(plain[of])}.`);
    });
  };

  const take = ({ runs }, isNew) => {
    if (isNew || !shown) {
      shown = { runs, first: runs[0], settled: false, histories: [[], []], isAutomatic: !chosen("lr") };
    }
    shown.runs = runs;
    if (isAtFloor(runs[0])) shown.settled = true;
    runs.forEach((run, number) => {
      const history = shown.histories[number];
      const last = history.at(-1);
      if (!run.diverged && (!last || run.t >= last.t * 1.015 + 1)) {
        history.push({ t: run.t, loss: run.loss, reg: run.reg, changes: run.changes });
      }
    });
  };

  const drive = makeDrive(root, {
    send: makeEngine(engine),
    take, draw, tell,
    now: () => (shown ? shown.runs[0].t : null),
    isOver: () => Boolean(shown && shown.runs[0].isOver),
  });
  // New networks from the start of the seed, or a change that those that run live through.
  const restart = () => {
    const options = { width: chosen("width"), inputStd: settings.inputStd, outputStd: settings.outputStd };
    drive.start({ options, data: data(), seed: chosen("seed"), runs: noises(), rate: rate(), limit: LIMIT });
  };
  const change = () => {
    if (shown && shown.runs[0].diverged) return restart();
    drive.change({ data: data(), runs: noises(), rate: rate() });
  };

  const showValues = () => {
    controls.show();
    noiseSwitch.textContent = noiseIsOn ? "Switch noise off" : "Switch noise on";
  };
  const showDots = () => {
    dots.show();
    remove.disabled = points.length <= 2;
    add.disabled = points.length >= MOST_POINTS;
  };
  const remember = () => {
    drive.touch();
    if (isFirst) writeLink({ preset: preset.value, points, noiseIsOn, inputs: controls.inputs });
  };
  const choosePreset = (name) => {
    preset.value = name;
    points = settings.presets[name].map((point) => [...point]);
    selected = null;
    showDots();
  };

  const moveTo = (number, x, y) => {
    points[number] = [clamp(x, ROOM.left, ROOM.right), clamp(y, ROOM.low, ROOM.high)];
    preset.value = "";
    selected = number;
    showDots();
    remember();
    change();
  };
  const addPoint = (x, y) => {
    if (points.length >= MOST_POINTS) return;
    points.push([x, y]);
    moveTo(points.length - 1, x, y);
    dots.focus(points.length - 1);
  };
  const removePoint = (number) => {
    if (points.length <= 2) return;
    points.splice(number, 1);
    const near = Math.min(number, points.length - 1);
    moveTo(near, ...points[near]);
    dots.focus(near);
  };
  const placeOf = (event) => {
    const area = picture.getBoundingClientRect();
    const scale = lineScale(makeBox(area.width, area.height, 24));
    return [scale.dataX(event.clientX - area.left), scale.dataY(event.clientY - area.top)];
  };
  const dots = makeDots(root.querySelector(".labelnoise-dots"), {
    count: () => points.length,
    place: (number) => {
      const scale = lineScale(makeBox(picture.clientWidth, picture.clientHeight, 24));
      return [scale.x(points[number][0]), scale.y(points[number][1])];
    },
    name: (number) => `Point ${number + 1} of ${points.length}: x = ${points[number][0].toFixed(2)}, y = ${points[number][1].toFixed(2)}`,
    select: (number) => { selected = number; },
    drag: (number, event) => moveTo(number, ...placeOf(event)),
    nudge: (number, way) => moveTo(number, ...points[number].map((value, k) => value + 0.02 * way[k])),
    remove: removePoint,
  });

  picture.addEventListener("dblclick", (event) => addPoint(...placeOf(event)));
  add.addEventListener("click", () => {
    const xs = points.map(([x]) => x).concat(-1, 1).sort((one, other) => one - other);
    const gaps = xs.slice(1).map((x, i) => [x - xs[i], (x + xs[i]) / 2]);
    addPoint(gaps.reduce((best, gap) => (gap[0] > best[0] + 1e-9 ? gap : best))[1], 0); // in the middle of the widest gap
  });
  remove.addEventListener("click", () => removePoint(selected ?? points.length - 1));
  play.addEventListener("click", () => drive.toggle(restart));
  again.addEventListener("click", () => {
    drive.touch();
    restart();
  });
  noiseSwitch.addEventListener("click", () => {
    noiseIsOn = !noiseIsOn;
    showValues();
    remember();
    change();
  });
  preset.addEventListener("change", () => {
    if (!preset.value) return;
    choosePreset(preset.value);
    remember();
    restart();
  });
  for (const input of controls.inputs) {
    input.addEventListener("input", () => {
      if (input.name === "noise_std") noiseIsOn = true;
      showValues();
      remember();
      if (input.name === "width" || input.name === "seed") restart();
      else change();
    });
  }

  const followLink = () => {
    const link = isFirst && readLink(settings.presets, controls.inputs, MOST_POINTS);
    if (!link) return false;
    noiseIsOn = link.noiseIsOn;
    preset.value = link.preset;
    points = link.points.map(([x, y]) => [clamp(x, ROOM.left, ROOM.right), clamp(y, ROOM.low, ROOM.high)]);
    return true;
  };

  // So many steps at once; a promise of the last snapshot's runs, with what is told of them.
  root.advance = async (total) => {
    await drive.advance(total);
    return { ...shown, points };
  };

  reveal(root);
  if (!followLink()) choosePreset(settings.start);
  showValues();
  showDots();
  restart();
  window.addEventListener("hashchange", () => {
    if (!followLink()) return;
    showValues();
    showDots();
    restart();
  });
  new ResizeObserver(() => {
    showDots();
    draw();
  }).observe(root);
}

setUpAll("network", setUpNetwork);
