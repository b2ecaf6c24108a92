// A few points of the plane under the reader's hand: the exact fit of least reg, and label noise that runs towards it. A worker
// computes both. pen.js, stage.js, noise_floor.js, dots.js, drive.js, plane_pictures.js, plane_words.js, engine/port.js and the
// function engine stand before this in the same function.
const LIMIT = 1000; // of a residual, where labels are about 1
const [FEWEST, MOST] = [3, 10]; // points
const EDGE = 1; // of the square in which they lie
const APART = 0.05; // at least, from point to point: units between nearer ones would be too steep for any picture

const clamp = (value) => Math.min(EDGE, Math.max(-EDGE, value));

function setUpPlane(root) {
  const settings = JSON.parse(root.dataset.settings);
  const controls = readControls(root);
  const [preset, skip] = root.querySelectorAll("select");
  const [least, network, curve] = root.querySelectorAll("canvas");
  const [play, again, noiseSwitch, other, add, remove] = root.querySelectorAll(".labelnoise-buttons button");
  const readout = root.querySelector(".labelnoise-readout");
  const labelled = controls.inputs.find((one) => one.name === "label").parentElement.querySelector("span");
  const chosen = (name) => controls.values()[name];
  const nextWord = makeWords(settings.seed + 1); // for random points

  let points = []; // [x1, x2, label]
  let noiseIsOn = settings.noiseIsOn;
  let selected = 0;
  let shown = null; // { run, first, settled, history }

  const data = () => ({
    x: Float64Array.from(points.flatMap(([x1, x2]) => [x1, x2])), y: Float64Array.from(points, ([, , y]) => y), n: points.length, dim: 2,
  });
  const runs = () => [{ noiseStd: noiseIsOn ? chosen("noise_std") : 0 }];
  const rate = () => ({ pull: settings.pull, most: settings.most });
  const skipUnit = () => ({ linear: true, constant: "constant", none: false })[skip.value];
  const boxOf = (canvas) => makeBox(canvas.clientWidth, canvas.clientHeight, ROOM_ABOVE);

  const draw = () => {
    if (!shown) return;
    const { run, history } = shown;
    const { optimum } = run;
    const surfaces = [least, network, curve].map((canvas) => clear(canvas, ROOM_ABOVE));
    if (!surfaces[0]) return;
    const common = { points, selected };
    drawPlane(surfaces[0], { ...common, values: optimum.surface, creases: optimum.creases, title: `the least reg, ${optimum.reg.toFixed(2)}` });
    drawScale(surfaces[0]);
    const how = run.noiseStd ? "label noise" : "no noise";
    drawPlane(surfaces[1], { ...common, values: run.surface, creases: run.creases, title: `${how}, reg ${run.reg.toFixed(2)}`, dots: true });
    drawReg(surfaces[2], history, optimum.reg);
  };

  const tell = (moves) => {
    const { run } = shown;
    play.textContent = moves ? "Pause" : "Start";
    readout.textContent = narrate(shown);
    const where = `${points.length} points in the plane`;
    least.setAttribute("aria-label", `The function of least reg through ${where}, as colours: reg ${inWords(run.optimum.reg)}, ` +
      `${run.optimum.creases.length} creases.`);
    network.setAttribute("aria-label", `A network at step ${count(run.t)} of SGD on the same ${where}: reg ${inWords(run.reg)}, ` +
      `${run.creases.length} creases.`);
    curve.setAttribute("aria-label", `Reg of the network against steps, now ${inWords(run.reg)}, and a line at the least reg, ` +
      `${inWords(run.optimum.reg)}.`);
  };

  const take = ({ runs: [run] }, isNew) => {
    if (isNew || !shown) shown = { run, first: run, settled: false, history: [] };
    shown.run = run;
    if (isAtFloor(run)) shown.settled = true;
    const last = shown.history.at(-1);
    if (!run.diverged && (!last || run.t >= last.t * 1.015 + 1)) shown.history.push({ t: run.t, reg: run.reg });
  };

  const drive = makeDrive(root, {
    send: makeEngine(engine),
    take, draw, tell,
    now: () => (shown ? shown.run.t : null),
    isOver: () => Boolean(shown && shown.run.isOver),
  });
  const restart = () => {
    const options = { width: settings.width, skip: skipUnit(), inputStd: 1, outputStd: 1 };
    drive.start({ options, data: data(), seed: chosen("seed"), runs: runs(), rate: rate(), limit: LIMIT });
  };
  const change = () => {
    if (shown && shown.run.diverged) return restart();
    drive.change({ data: data(), runs: runs(), rate: rate() });
  };

  const showAll = () => {
    controls.set("label", points[selected][2]);
    controls.show();
    labelled.textContent = `label of point ${selected + 1}`;
    noiseSwitch.textContent = noiseIsOn ? "Switch noise off" : "Switch noise on";
    add.disabled = points.length >= MOST;
    remove.disabled = points.length <= FEWEST;
    dots.show();
    draw();
  };
  const isFree = (x, y, besides) => points.every((one, number) => number === besides || Math.hypot(one[0] - x, one[1] - y) >= APART);
  // The point stays where it is if there is no room.
  const moveTo = (number, x, y) => {
    const [x1, x2] = [clamp(x), clamp(y)];
    if (!isFree(x1, x2, number)) return;
    points[number] = [x1, x2, points[number][2]];
    isMine(number);
  };
  const relabel = (number, label) => {
    points[number][2] = label;
    isMine(number);
  };
  const isMine = (number) => {
    selected = number;
    preset.value = "";
    drive.touch();
    showAll();
    change();
  };
  // A place at random, or the first of some that has room.
  const somewhere = () => {
    for (let turn = 0; ; turn++) {
      const [x, y] = [0, 0].map(() => Math.round(100 * (1.8 * (nextWord() / 2 ** 32) - 0.9)) / 100);
      if (points.every((one) => Math.hypot(one[0] - x, one[1] - y) >= (turn < 200 ? 0.3 : APART))) return [x, y];
    }
  };
  const addPoint = ([x, y], label = 0) => {
    if (points.length >= MOST || !isFree(clamp(x), clamp(y), -1)) return;
    points.push([clamp(x), clamp(y), label]);
    isMine(points.length - 1);
    dots.focus(selected);
  };
  const removePoint = (number) => {
    if (points.length <= FEWEST) return;
    points.splice(number, 1);
    isMine(Math.min(number, points.length - 1));
    dots.focus(selected);
  };
  const choosePreset = (name) => {
    preset.value = name;
    points = settings.presets[name].map((point) => [...point]);
    selected = points.length - 1;
  };
  const placeOf = (canvas, event) => {
    const area = canvas.getBoundingClientRect();
    const scale = planeScale(boxOf(canvas));
    return [scale.dataX(event.clientX - area.left), scale.dataY(event.clientY - area.top)];
  };
  const levels = JSON.parse(controls.inputs.find((one) => one.name === "label").dataset.values);
  const nextLabel = (label, way) => levels[Math.max(0, Math.min(levels.length - 1, levels.indexOf(label) + way))];

  const dots = makeDots(root.querySelector(".labelnoise-dots"), {
    count: () => points.length,
    place: (number) => {
      const scale = planeScale(boxOf(least));
      return [scale.x(points[number][0]), scale.y(points[number][1])];
    },
    name: (number) => {
      const [x1, x2, label] = points[number];
      return `Point ${number + 1} of ${points.length}: x1 = ${x1.toFixed(2)}, x2 = ${x2.toFixed(2)}, label ${label}`;
    },
    select: (number) => {
      if (selected === number) return;
      selected = number;
      showAll();
    },
    drag: (number, event) => moveTo(number, ...placeOf(least, event)),
    nudge: (number, way) => moveTo(number, points[number][0] + 0.02 * way[0], points[number][1] + 0.02 * way[1]),
    remove: removePoint,
    key: (number, { key }) => {
      const way = { "+": 1, "=": 1, PageUp: 1, "-": -1, PageDown: -1 }[key];
      if (way) relabel(number, nextLabel(points[number][2], way));
      return Boolean(way);
    },
    dress: (dot, number) => dot.style.setProperty("--shade", shadeInWords(points[number][2])),
  });

  // In the other picture a hand can take them as well.
  let held = -1;
  makeDraggable(network, (px, py) => {
    const scale = planeScale(boxOf(network));
    const at = points.findIndex(([x, y]) => Math.hypot(scale.x(x) - px, scale.y(y) - py) < 16);
    if (at >= 0) held = at;
    return at >= 0;
  }, (px, py) => {
    const scale = planeScale(boxOf(network));
    moveTo(held, scale.dataX(px), scale.dataY(py));
  });

  least.addEventListener("dblclick", (event) => addPoint(placeOf(least, event)));
  play.addEventListener("click", () => drive.toggle(restart));
  const anew = () => {
    drive.touch();
    showAll();
    restart();
  };
  again.addEventListener("click", anew);
  noiseSwitch.addEventListener("click", () => {
    noiseIsOn = !noiseIsOn;
    drive.touch();
    showAll();
    change();
  });
  other.addEventListener("click", () => {
    const many = points.length;
    points = [];
    while (points.length < many) points.push([...somewhere(), levels[drawIndex(nextWord, levels.length)]]);
    preset.value = "";
    anew();
  });
  add.addEventListener("click", () => addPoint(somewhere()));
  remove.addEventListener("click", () => removePoint(selected));
  preset.addEventListener("change", () => {
    if (!preset.value) return;
    choosePreset(preset.value);
    anew();
  });
  skip.addEventListener("change", anew);
  for (const input of controls.inputs.filter((one) => one.type === "range")) {
    input.addEventListener("input", () => {
      if (input.name === "label") return relabel(selected, chosen("label"));
      if (input.name === "seed") return anew();
      noiseIsOn = true;
      drive.touch();
      showAll();
      change();
    });
  }

  // So many steps at once; a promise of the last snapshot, with what is told of it.
  root.advance = async (total) => {
    await drive.advance(total);
    return { ...shown, points, selected };
  };

  reveal(root);
  choosePreset(settings.start);
  showAll();
  restart();
  new ResizeObserver(showAll).observe(root);
}

setUpAll("in-plane", setUpPlane);
