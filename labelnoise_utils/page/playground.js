// Sets up every playground on the page that is not yet; the two other files stand before this in the same function.
const LAST_S = 1e-3; // there a run pauses by itself

// A run from its start, which can be repeated: the seed fixes it, whatever the speed.
function makeRun(parameters, start, particles, seed) {
  const nextWord = makeWords(seed);
  const drawSign = (batchSize) => meanSign(nextWord, batchSize);
  const cloud = { u: new Float64Array(particles).fill(start.u), v: new Float64Array(particles).fill(start.v) };
  const first = measure(cloud);
  const run = {
    parameters, start, cloud, first, now: first, t: 0, diverged: false,
    settled: null, // {t, s} from which the prediction starts
    errors: 0, // sum of the mean squared error over the steps since then
    history: [[0, first.s]], stride: 1,
    errorHistory: [[1, first.squaredError]], // nearly equal spaces on a logarithmic axis; the start stands at step 1
    advance(steps) {
      for (let k = 0; k < steps && !run.diverged; k++) {
        if (!run.settled) {
          run.now = measure(cloud);
          if (isSettled(parameters, run.now)) run.settled = { t: run.t, s: run.now.s };
        }
        const squaredError = step(cloud, parameters, drawSign);
        run.diverged = !(squaredError < 1e6);
        if (run.settled) run.errors += squaredError;
        if (run.t + 1 >= 1.03 * run.errorHistory.at(-1)[0]) run.errorHistory.push([run.t + 1, squaredError]);
        if (++run.t % run.stride || run.diverged) continue;
        run.history.push([run.t, measure(cloud).s]);
        if (run.history.length > 800) {
          run.history = run.history.filter((_, i) => i % 2 === 0);
          run.stride *= 2;
        }
      }
      run.now = measure(cloud);
    },
    // The measured rate over the predicted one, and what the mean squared error, over the same steps, makes of it.
    ratios() {
      const steps = run.settled ? run.t - run.settled.t : 0;
      const rate = decayRate(parameters);
      if (!(rate * steps > 0.02)) return null;
      const meanError = run.errors / steps;
      const fall = Math.min(1, rate + 4 * parameters.lr ** 2 * meanError); // of the mean of s, in a step
      const withError = -Math.log(1 - fall) / rate;
      return { measured: Math.log(run.settled.s / run.now.s) / (rate * steps), meanError, withError };
    },
    predicted(t) {
      return run.settled.s * Math.exp(-decayRate(parameters) * (t - run.settled.t));
    },
    isOver() {
      const arrived = run.now.s < LAST_S && run.settled && first.s > 0;
      return run.diverged || Boolean(arrived) || (run.t >= 1000 && (run.now.s < LAST_S || parameters.noiseStd === 0));
    },
  };
  return run;
}

function describe(run) {
  const { parameters, start, now, first, t } = run;
  const at = `Step ${count(t)}. `;
  if (run.diverged) {
    const bound = largestRate(start.u, start.v);
    const why = parameters.lr < bound
      ? `It is below 1/(u² + v²) = ${inWords(bound)}, but the error and the noise carry the cloud to where that is less`
      : `It has to stay below 1/(u² + v²), from this start ${inWords(bound)}`;
    return `Diverged at step ${count(t)}: the learning rate ${parameters.lr} is too large here. ${why}.`;
  }
  const error = `mean (uv\u00a0−\u00a01)² = ${inWords(now.squaredError)}`;
  const fromTo = `Mean |u² − v²|: ${inWords(first.s)} at the start, ${inWords(now.s)} now. `;
  if (first.s === 0) {
    const stuck = start.u === 0 ? "at u = v = 0 nothing ever moves; " : "";
    return `${at}With u = v at the start u² − v² is 0 and stays 0: ${stuck}${error}.`;
  }
  if (!run.settled) return `${at}Fitting: the cloud falls into the valley; ${error}, at the start ${inWords(first.squaredError)}. ${fromTo}`;
  if (parameters.noiseStd === 0) return `${at}Fitted, and without noise nothing moves any more: the cloud stays where it met the valley. ${fromTo}`;
  const flat = now.s < LAST_S ? "The cloud has come to the widest point. " : "The error is at its floor; the noise now moves the cloud along the valley, to u = v. ";
  const ratios = run.ratios();
  const rate = `4 lr² σ² / B = ${inWords(decayRate(parameters))}`.replaceAll(" ", "\u00a0");
  if (!ratios) return `${at}${flat}${fromTo}Predicted: a fraction ${rate} less in each step, counted from step ${count(run.settled.t)}.`;
  const law = Number.isFinite(ratios.withError)
    ? `With the error that is left, which acts as a little more noise, the prediction is ${ratios.withError.toFixed(3)} times`
    : "The steps are too large for a prediction with the error that is left";
  return `${at}${flat}${fromTo}It shrinks ${ratios.measured.toFixed(3)} times as fast as ${rate} per step, the prediction from the noise alone. ${law}.`;
}

function describePlane({ now, t, cloud, diverged }, reach) {
  const inside = countInside(cloud, reach);
  const where = diverged ? "has no place" : `has its centre at u = ${inWords(now.u)}, v = ${inWords(now.v)}`;
  return `Plane of u and v at step ${count(t)}. The cloud of ${count(cloud.u.length)} particles, orange dots, ${where}; ` +
    `${count(inside)} of them are in the picture. The valley uv = 1 is a black curve, its widest point u = v = 1 a circle on it.`;
}

function describeError({ now, t, first, diverged }) {
  const end = diverged ? "it has no bound" : `it is ${inWords(now.squaredError)} after ${count(t)} steps`;
  return `Mean squared error against the number of steps, both on logarithmic axes: at the start ${inWords(first.squaredError)}, ${end}.`;
}

function describeDecay(run) {
  const { now, t, first, diverged, settled } = run;
  const fall = diverged ? "it has no bound" : `it is ${inWords(now.s)} after ${count(t)} steps`;
  const black = settled && !diverged ? `; the predicted line, thin and black, is at ${inWords(run.predicted(t))}` : "";
  return `Mean of |u² − v²| against steps, on a log scale: from ${inWords(first.s)} at the start ${fall}${black}.`;
}

function setUp(root) {
  const inputs = Object.fromEntries([...root.querySelectorAll("input")].map((input) => [input.name, input]));
  const offered = (name) => JSON.parse(inputs[name].dataset.values);
  const chosen = (name) => offered(name)[inputs[name].value];
  const [plane, error, decay] = root.querySelectorAll("canvas");
  const [play, forward, reset] = root.querySelectorAll("button");
  const readout = root.querySelector(".labelnoise-readout");
  const status = root.querySelector("[role=status]");
  const reach = Math.max(...offered("u"));
  let run;
  let running = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let visible = false;
  let frame = 0; // the one that is asked for
  let owed = 0; // parts of a step
  let told = 0; // when the words last changed, in milliseconds
  let spoke = Infinity; // when they were last read aloud: never before somebody did something
  const moves = () => running && !run.isOver();

  const draw = () => {
    const [left, upper, lower] = [clear(plane, 10), clear(error, 26), clear(decay, 46)];
    if (left) drawPlane(left, run, reach);
    if (upper) drawError(upper, run);
    if (lower) drawDecay(lower, run);
  };

  const tell = (aloud) => {
    play.textContent = moves() ? "Pause" : "Start";
    readout.textContent = describe(run);
    plane.setAttribute("aria-label", describePlane(run, reach));
    error.setAttribute("aria-label", describeError(run));
    decay.setAttribute("aria-label", describeDecay(run));
    if (aloud) status.textContent = (moves() ? "Running. " : "Paused. ") + readout.textContent;
  };

  // In the automatic speed the fit takes seconds, whatever the learning rate: so many frames for the error to fall by a factor
  // e, where the valley is met. From then on each frame goes a hundredth further.
  const FRAMES = 80;
  const pace = () => {
    if (chosen("speed")) return chosen("speed");
    const fold = 1 / (2 * run.parameters.lr * Math.hypot(run.first.s, 2));
    const slow = Math.min(5, Math.max(0.05, fold / FRAMES));
    const since = run.settled ? run.t - run.settled.t : Math.max(0, run.t - 10 * fold);
    return Math.min(2000, Math.max(slow, since / 100));
  };

  const onFrame = (time) => {
    frame = 0;
    if (!visible || !moves()) return;
    owed += pace();
    const began = performance.now();
    for (; owed >= 1 && performance.now() - began < 8; owed -= Math.min(50, Math.floor(owed))) {
      run.advance(Math.min(50, Math.floor(owed)));
    }
    owed = Math.min(owed, 1); // what a slow machine cannot do in time is left out
    draw();
    if (time - told > 250 || !moves()) {
      const aloud = spoke < Infinity && (time - spoke > 8000 || !moves());
      tell(aloud);
      told = time;
      if (aloud) spoke = time;
    }
    keepGoing();
  };
  const keepGoing = () => {
    if (visible && moves() && !frame) frame = requestAnimationFrame(onFrame);
  };

  const show = () => {
    draw();
    tell(true);
    spoke = performance.now();
    keepGoing();
  };

  const showValues = () => {
    for (const input of Object.values(inputs)) {
      const words = JSON.parse(input.dataset.texts)[input.value];
      input.setAttribute("aria-valuetext", words);
      input.parentElement.nextElementSibling.textContent = words;
    }
  };

  const restart = () => {
    showValues();
    const parameters = { lr: chosen("lr"), noiseStd: chosen("noise_std"), batchSize: chosen("batch_size") };
    const start = { u: chosen("u"), v: chosen("v") };
    run = makeRun(parameters, start, Number(root.dataset.particles), Number(root.dataset.seed));
    owed = 0;
  };

  for (const input of Object.values(inputs)) {
    input.addEventListener("input", () => {
      if (input.name === "speed") return showValues();
      restart();
      show();
    });
  }
  plane.addEventListener("click", (event) => {
    const area = plane.getBoundingClientRect();
    const scale = planeScale(makeBox(area.width, area.height), reach);
    const target = { u: scale.u(event.clientX - area.left), v: scale.v(event.clientY - area.top) };
    for (const [name, value] of Object.entries(target)) {
      const distances = offered(name).map((one) => Math.abs(one - value));
      inputs[name].value = distances.indexOf(Math.min(...distances));
    }
    restart();
    show();
  });
  play.addEventListener("click", () => {
    running = !moves();
    if (run.isOver()) restart();
    show();
  });
  forward.addEventListener("click", () => {
    running = false;
    run.advance(chosen("speed") || Math.max(1, Math.round(run.t / 4)));
    show();
  });
  reset.addEventListener("click", () => {
    restart();
    show();
  });

  // Runs so many steps at once; returns the run, for whoever wants its numbers.
  root.advance = (steps) => {
    run.advance(steps);
    draw();
    tell(false);
    return run;
  };

  root.querySelector(".labelnoise-fallback").hidden = true;
  root.querySelector(".labelnoise-needs-script").hidden = false;
  restart();
  draw();
  tell(false);
  new ResizeObserver(draw).observe(root);
  new IntersectionObserver(([entry]) => {
    visible = entry.isIntersecting;
    keepGoing();
  }).observe(root);
}

for (const root of document.querySelectorAll(".labelnoise-playground:not([data-moves])")) {
  root.dataset.moves = "";
  setUp(root);
}
