// Networks on a line that a worker trains while one moves the points. pen.js, stage.js, network_pictures.js, network_words.js,
// network_link.js, engine/port.js and the function engine stand before this in the same function.
const MOST_POINTS = 40;
const AFTER_CHANGE = 200; // steps in the first frame after a point was moved: the function follows the hand
const LIMIT = 1000; // of a residual, where labels are about 1: beyond it units die and a line is left, or nothing is
const TURN = 12; // milliseconds of a frame in which the worker may step

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const byX = (one, other) => one[0] - other[0];

function setUpNetwork(root) {
  const isFirst = root === document.querySelector(".labelnoise-network"); // the one that the address speaks of
  const settings = JSON.parse(root.dataset.settings);
  const controls = readControls(root);
  const preset = root.querySelector("select");
  const [picture, ...plots] = root.querySelectorAll("canvas");
  const [play, again, noiseSwitch, add, remove] = root.querySelectorAll(".labelnoise-buttons button");
  const dots = root.querySelector(".labelnoise-dots");
  const readout = root.querySelector(".labelnoise-readout");
  const speed = root.querySelector(".labelnoise-speed");
  const status = root.querySelector("[role=status]");
  const chosen = (name) => controls.values()[name];
  const send = makeEngine(engine);

  let points = [];
  let noiseIsOn = settings.noiseIsOn;
  let selected = null; // the point that was touched last
  let shown = null; // { runs, first, settled, histories, isAutomatic }
  let running = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let isAsking = false;
  let asked = 0; // when, in milliseconds
  let pending = null; // what has changed and the engine does not know yet
  let slowest = 12; // steps in a frame at first
  let steps = 0; // of the last frame
  let [told, spoke, touched] = [0, 0, false];

  const moves = () => running && !(shown && shown.runs[0].isOver);
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

  const tell = (aloud) => {
    if (!shown) return;
    play.textContent = moves() ? "Pause" : "Start";
    const [noisy, plain] = shown.runs;
    readout.textContent = narrate(shown);
    speed.textContent = moves() && steps ? `${count(steps)} ${steps === 1 ? "step" : "steps"} a frame` : "standing still";
    picture.setAttribute("aria-label", `Functions of two networks through ${points.length} points at step ${count(noisy.t)}: ` +
      `with label noise, orange, ${noisy.changes} changes between convex and concave; without, blue and dashed, ${plain.changes}.`);
    plots.forEach((plot, number) => {
      const [of, name] = [["loss", "Training error"], ["reg", "reg"], ["changes", "Convexity changes"]][number];
      plot.setAttribute("aria-label", `${name} against steps, on a log scale: with label noise ${twoDigits(noisy[of])}, ` +
        `without ${twoDigits(plain[of])}.`);
    });
    if (aloud) {
      status.textContent = (moves() ? "Running. " : "Paused. ") + readout.textContent;
      spoke = performance.now();
    }
  };

  const take = ({ runs }, isNew) => {
    if (isNew || !shown) {
      shown = { runs, first: runs[0], settled: false, histories: [[], []], isAutomatic: !chosen("lr") };
    }
    shown.runs = runs;
    if (runs[0].t > 20 && runs[0].loss <= 1.5 * errorFloor(runs[0]) + 1e-4) shown.settled = true;
    runs.forEach((run, number) => {
      const history = shown.histories[number];
      const last = history.at(-1);
      if (!run.diverged && (!last || run.t >= last.t * 1.015 + 1)) {
        history.push({ t: run.t, loss: run.loss, reg: run.reg, changes: run.changes });
      }
    });
  };

  // New networks from the start of the seed, or a change that those that run live through.
  const restart = () => {
    const options = { width: chosen("width"), inputStd: settings.inputStd, outputStd: settings.outputStd };
    pending = { kind: "start", options, data: data(), seed: chosen("seed"), runs: noises(), rate: rate(), limit: LIMIT };
    slowest = 12;
    flush();
  };
  const change = () => {
    if (shown && shown.runs[0].diverged) return restart();
    if (!pending) pending = { kind: "change" };
    Object.assign(pending, { data: data(), runs: noises(), rate: rate() });
    if (pending.kind === "change") slowest = AFTER_CHANGE;
    flush();
  };
  const flush = async () => {
    if (isAsking || !pending) return;
    const message = pending;
    [pending, isAsking] = [null, true];
    take(await send(message), true);
    isAsking = false;
    if (!moves()) {
      draw();
      tell(touched && performance.now() - spoke > 2000);
    }
    if (pending) flush();
    keepGoing();
  };

  // The first steps can be told apart; later frames go a fixed part further, until the worker has no time for more. A page
  // that misses frames makes up for them.
  const pace = (frames) => Math.round(Math.min(4, frames) * Math.max(slowest, shown.runs[0].t / 60));
  const ask = async (time) => {
    isAsking = true;
    const before = shown.runs[0].t;
    const frames = Math.max(1, (time - asked) / 16.7);
    asked = time;
    const snapshot = await send({ kind: "advance", steps: pace(frames), milliseconds: TURN });
    isAsking = false;
    take(snapshot, false);
    steps = shown.runs[0].t - before;
    if (pending) flush();
  };
  const keepGoing = whileSeen(root, (time) => {
    draw();
    if (time - told > 250 || !moves()) {
      tell(touched && (time - spoke > 10_000 || !moves()));
      told = time;
    }
    if (moves() && !isAsking && shown) ask(time);
    return moves();
  });

  const showValues = () => {
    controls.show();
    noiseSwitch.textContent = noiseIsOn ? "Switch noise off" : "Switch noise on";
  };
  const showDots = () => {
    const { clientWidth: width, clientHeight: height } = picture;
    const scale = lineScale(makeBox(width, height, 24));
    while (dots.children.length > points.length) dots.lastElementChild.remove();
    while (dots.children.length < points.length) dots.append(makeDot());
    points.forEach(([x, y], number) => {
      const dot = dots.children[number];
      dot.style.left = `${scale.x(x)}px`;
      dot.style.top = `${scale.y(y)}px`;
      dot.setAttribute("aria-label", `Point ${number + 1} of ${points.length}: x = ${x.toFixed(2)}, y = ${y.toFixed(2)}`);
    });
    remove.disabled = points.length <= 2;
    add.disabled = points.length >= MOST_POINTS;
  };
  const remember = () => {
    touched = true;
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
    dots.lastElementChild.focus();
  };
  const removePoint = (number) => {
    if (points.length <= 2) return;
    points.splice(number, 1);
    const near = Math.min(number, points.length - 1);
    moveTo(near, ...points[near]);
    dots.children[near].focus();
  };
  const placeOf = (event) => {
    const area = picture.getBoundingClientRect();
    const scale = lineScale(makeBox(area.width, area.height, 24));
    return [scale.dataX(event.clientX - area.left), scale.dataY(event.clientY - area.top)];
  };
  const numberOf = (dot) => [...dots.children].indexOf(dot);

  function makeDot() {
    const dot = document.createElement("button");
    dot.type = "button";
    dot.addEventListener("pointerdown", (event) => {
      selected = numberOf(dot);
      dot.setPointerCapture(event.pointerId);
    });
    dot.addEventListener("pointermove", (event) => {
      if (dot.hasPointerCapture(event.pointerId) && event.buttons) moveTo(numberOf(dot), ...placeOf(event));
    });
    dot.addEventListener("focus", () => {
      selected = numberOf(dot);
    });
    dot.addEventListener("keydown", (event) => {
      const number = numberOf(dot);
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (way) moveTo(number, ...points[number].map((value, k) => value + (event.shiftKey ? 0.1 : 0.02) * way[k]));
      if (event.key === "Delete" || event.key === "Backspace") removePoint(number);
      if (way || event.key === "Delete" || event.key === "Backspace") event.preventDefault();
    });
    return dot;
  }

  picture.addEventListener("dblclick", (event) => addPoint(...placeOf(event)));
  add.addEventListener("click", () => {
    const xs = points.map(([x]) => x).concat(-1, 1).sort((one, other) => one - other);
    const gaps = xs.slice(1).map((x, i) => [x - xs[i], (x + xs[i]) / 2]);
    addPoint(gaps.reduce((best, gap) => (gap[0] > best[0] + 1e-9 ? gap : best))[1], 0); // in the middle of the widest gap
  });
  remove.addEventListener("click", () => removePoint(selected ?? points.length - 1));
  play.addEventListener("click", () => {
    const wasOver = shown.runs[0].isOver;
    running = !moves();
    touched = true;
    if (wasOver) restart();
    tell(true);
    keepGoing();
  });
  again.addEventListener("click", () => {
    touched = true;
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

  // So many steps at once, in pieces that make a history; a promise of the last snapshot's runs, with what is told of them.
  root.advance = async (total) => {
    while (isAsking || pending || !shown) await new Promise((resolve) => setTimeout(resolve, 5));
    isAsking = true;
    for (let left = total; left > 0;) {
      const piece = Math.min(left, Math.max(20, Math.round(shown.runs[0].t / 20)));
      take(await send({ kind: "advance", steps: piece }), false);
      left -= piece;
    }
    isAsking = false;
    draw();
    tell(false);
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
