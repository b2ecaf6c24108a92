// Label-noise SGD: many steps of a model. Needs random.js; a model is what makeTwoLayerRelu and its like return.

function meanSquaredError(output, theta, data) {
  let sum = 0;
  for (let i = 0; i < data.n; i++) sum += (output(theta, data, i) - data.y[i]) ** 2;
  return sum / data.n;
}

// What each step draws: an example, and a fair sign for its noise. Two streams, so that runs with the same seed read the
// same examples whatever the noise; and the same numbers follow however the steps are cut into pieces.
function makeDraws(seed) {
  const [nextIndex, nextSign] = [makeWords(seed), makeWords(seed ^ 0x5bd1e995)];
  return { index: (n) => drawIndex(nextIndex, n), sign: () => (nextSign() >>> 31 ? 1 : -1) };
}

// A run from theta, which it changes in place. rate is what makeRate of schedule.js returns; the learning rate is
// looked at where t is a multiple of EVERY and nowhere else, so that a run does not depend on how its steps are cut into pieces.
const EVERY = 100;

function makeRun(model, data, theta, { seed, noiseStd, rate, limit = 1e9 }) {
  const draws = makeDraws(seed);
  const run = {
    data, theta, noiseStd, rate, t: 0, lr: 0,
    diverged: false, // at step t, whose residual was beyond the limit
    atRest: false, // without noise and without error: no step moves it
    isOver: () => run.diverged || run.atRest || run.rate.isOver(),
    advance(steps) {
      const end = run.t + steps;
      while (run.t < end) {
        if (run.isOver()) break;
        if (run.t % EVERY === 0 || !run.lr) {
          const reg = model.reg(theta, run.data);
          run.lr = run.rate.next(reg, run.noiseStd, EVERY);
          run.atRest = run.noiseStd === 0 && model.loss(theta, run.data) < 1e-20;
        }
        const stop = Math.min(end, (Math.floor(run.t / EVERY) + 1) * EVERY);
        for (; run.t < stop && !run.diverged; run.t++) {
          const sign = draws.sign(); // drawn without noise too
          const residual = model.step(theta, run.data, draws.index(run.data.n), run.noiseStd * sign, run.lr);
          run.diverged = !(Math.abs(residual) < limit);
        }
      }
    },
  };
  return run;
}

// The largest ||grad h(x_i)||^2 is what a step on a single example feels; above 1 over it such a step overshoots by more
// than it started with. From reg of each example alone.
function largestRate(model, theta, data) {
  let largest = 0;
  for (let i = 0; i < data.n; i++) {
    const one = { x: data.x.subarray(i * data.dim, (i + 1) * data.dim), y: data.y.subarray(i, i + 1), n: 1, dim: data.dim };
    largest = Math.max(largest, model.reg(theta, one));
  }
  return 1 / largest;
}
