// What the figures that compute in the page do alike: controls, words, and when they run. pen.js stands before this.
const BUDGET = 8; // milliseconds of a frame that may go into steps

// The controls of a figure by name: a slider's value is one of those offered, a checkbox is true or false.
function readControls(root) {
  const inputs = [...root.querySelectorAll("input[name], select[name]")];
  const value = (input) => {
    if (input.type === "checkbox") return input.checked;
    return input.dataset.values ? JSON.parse(input.dataset.values)[input.value] : input.value;
  };
  const show = () => {
    for (const input of inputs.filter((one) => one.dataset.texts)) {
      const words = JSON.parse(input.dataset.texts)[input.value];
      input.setAttribute("aria-valuetext", words);
      input.parentElement.nextElementSibling.textContent = words;
    }
  };
  // Moves a slider to the offered value next to a number.
  const set = (name, number) => {
    const input = inputs.find((one) => one.name === name);
    const distances = JSON.parse(input.dataset.values).map((one) => Math.abs(one - number));
    input.value = distances.indexOf(Math.min(...distances));
    show();
  };
  show();
  return { inputs, set, show, values: () => Object.fromEntries(inputs.map((input) => [input.name, value(input)])) };
}

// Calls onFrame(time) before each painting while the figure is seen and for as long as that returns true. The function
// that is returned starts it.
function whileSeen(root, onFrame) {
  let [seen, frame] = [false, 0];
  const wake = () => {
    if (seen && !frame) frame = requestAnimationFrame(run);
  };
  const run = (time) => {
    frame = 0;
    if (seen && root.isConnected && onFrame(time)) wake();
  };
  new IntersectionObserver(([entry]) => {
    seen = entry.isIntersecting;
    wake();
  }).observe(root);
  return wake;
}

// Lets a hand or a mouse drag something in a canvas: grabs(x, y) says whether it is there, move(x, y) follows it. Where
// it is not, a finger scrolls the page as everywhere.
function makeDraggable(canvas, grabs, move) {
  const at = ({ clientX, clientY }) => {
    const area = canvas.getBoundingClientRect();
    return [clientX - area.left, clientY - area.top];
  };
  canvas.addEventListener("touchstart", (event) => grabs(...at(event.touches[0])) && event.preventDefault(), { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (!grabs(...at(event))) return;
    canvas.setPointerCapture(event.pointerId);
    move(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) move(...at(event));
    else canvas.style.cursor = grabs(...at(event)) ? "grab" : "";
  });
}

function reveal(root) {
  root.querySelector(".labelnoise-fallback").hidden = true;
  root.querySelector(".labelnoise-needs-script").hidden = false;
}

// A figure in which something runs: a button that starts and pauses, one that starts again, one for another seed, a
// speed. The scene has restart(values, seed), change(name, values) for what needs no new start (false if it does),
// advance(steps), pace(), isOver(), draw(), words() for the readout, labels() for the canvases, report() for a test.
function makeStage(root, makeScene) {
  const settings = JSON.parse(root.dataset.settings);
  const controls = readControls(root);
  const canvases = [...root.querySelectorAll("canvas")];
  const [play, again, other] = root.querySelectorAll("button");
  const readout = root.querySelector(".labelnoise-readout");
  const status = root.querySelector("[role=status]");
  const scene = makeScene(root, settings, controls);
  let seed = settings.seed;
  let running = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let owed = 0; // parts of a step
  let told = 0; // when the words last changed, in milliseconds
  let spoke = Infinity; // when they were last read aloud: never before somebody did something
  const moves = () => running && !scene.isOver();

  const tell = (aloud) => {
    play.textContent = moves() ? "Pause" : "Start";
    readout.textContent = scene.words();
    scene.labels().forEach((label, i) => canvases[i].setAttribute("aria-label", label));
    if (aloud) status.textContent = (moves() ? "Running. " : "Paused. ") + readout.textContent;
  };
  const wake = whileSeen(root, (time) => {
    if (!moves()) return false;
    owed += controls.values().speed || scene.pace();
    const began = performance.now();
    let chunk = 16;
    while (owed >= 1 && performance.now() - began < BUDGET && !scene.isOver()) {
      const steps = Math.min(chunk, Math.floor(owed));
      scene.advance(steps);
      owed -= steps;
      chunk = Math.min(2 * chunk, 512);
    }
    owed = Math.min(owed, 1); // what a slow machine cannot do in time is left out
    scene.draw();
    if (time - told > 250 || !moves()) {
      const aloud = spoke < Infinity && (time - spoke > 8000 || !moves());
      tell(aloud);
      told = time;
      if (aloud) spoke = time;
    }
    return moves();
  });
  const show = () => {
    scene.draw();
    tell(true);
    spoke = performance.now();
    wake();
  };
  const restart = () => {
    scene.restart(controls.values(), seed);
    owed = 0;
  };

  const changed = (name) => {
    controls.show();
    if (name === "speed") return;
    if (!scene.change(name, controls.values())) restart();
    show();
  };
  for (const input of controls.inputs) input.addEventListener("input", () => changed(input.name));
  root.addEventListener("dragged", (event) => {
    controls.set(event.detail.name, event.detail.value);
    scene.change(event.detail.name, controls.values());
    scene.draw();
    tell(false);
    wake();
  });
  play.addEventListener("click", () => {
    running = !moves();
    if (scene.isOver()) restart();
    show();
  });
  again.addEventListener("click", () => {
    restart();
    show();
  });
  other.addEventListener("click", () => {
    seed = (seed + 1) >>> 0;
    restart();
    show();
  });

  // Runs so many steps at once; returns what there is to measure.
  root.advance = (steps) => {
    scene.advance(steps);
    scene.draw();
    tell(false);
    return scene.report();
  };

  reveal(root);
  restart();
  scene.draw();
  tell(false);
  new ResizeObserver(() => scene.draw()).observe(root);
}

function setUpAll(name, setUp) {
  for (const root of document.querySelectorAll(`.labelnoise-${name}:not([data-moves])`)) {
    root.dataset.moves = "";
    setUp(root);
  }
}
