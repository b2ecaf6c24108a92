// How many steps it takes until the mean of reg over some runs has halved, and the standard error of the ratio of two such
// numbers. The engine stands before this in the same function; nothing here draws.

// Points at zero training error, one for each run; the noise then starts there.
function makeStarts({ model, x, y, before }, seed) {
  const data = { x: Float64Array.from(x), y: Float64Array.from(y), n: x.length, dim: 1 };
  if (model === "product") {
    return { data, model: makeProduct(), thetas: Array.from({ length: before.runs }, () => Float64Array.of(3, 1 / 3)) };
  }
  const network = makeTwoLayerRelu({ width: 50 });
  const nextWord = makeWords(seed);
  const thetas = Array.from({ length: before.runs }, () => {
    const theta = network.start(makeNormals(nextWord));
    for (let t = 0; t < 40000; t++) network.step(theta, data, drawIndex(nextWord, data.n), 0, 0.001);
    return theta;
  });
  return { data, model: network, thetas };
}

// Some runs with one setting, side by side. Windows of time, each 2% longer than the last; for each window and run the
// mean of reg, over that at the start, and the mean training error.
function makeCloud({ data, model, thetas: starts }, { lr, noiseStd, batch }, seed) {
  const thetas = starts.map((theta) => theta.slice());
  const words = thetas.map((_, k) => makeWords((seed + 7919 * (k + 1)) >>> 0));
  const first = starts.map((theta) => model.reg(theta, data));
  const cloud = { t: 0, windows: [], diverged: false, isDone: false };

  const window = () => {
    const [from, to] = [cloud.t, Math.max(cloud.t + 8, Math.round(cloud.t * 1.02))];
    const looks = 8;
    const reg = new Float64Array(thetas.length);
    let error = 0;
    thetas.forEach((theta, k) => {
      let t = from;
      for (let look = 1; look <= looks; look++) {
        for (const until = from + Math.round(((to - from) * look) / looks); t < until; t++) {
          const i = data.n === 1 ? 0 : drawIndex(words[k], data.n);
          model.step(theta, data, i, noiseStd * meanSign(words[k], batch), lr);
        }
        reg[k] += model.reg(theta, data) / first[k] / looks;
        error += model.loss(theta, data) / looks / thetas.length;
      }
    });
    cloud.t = to;
    cloud.windows.push({ t: (from + to) / 2, steps: to - from, reg, error, mean: reg.reduce((a, b) => a + b) / reg.length });
    cloud.diverged = !Number.isFinite(error);
    // Until it has halved whichever run is left out.
    cloud.isDone = cloud.diverged || Math.max(...Array.from(reg, (_, k) => meanWithout(reg, k))) < 0.5;
  };
  cloud.advance = (until) => {
    while (!cloud.isDone && cloud.t < until) window();
  };
  cloud.window = window;
  return cloud;
}

const meanWithout = (values, left) => values.reduce((sum, one, k) => (k === left ? sum : sum + one), 0) / (values.length - 1);

// The step at which a mean of reg, one number for each window, first is half of that at the start; log t is interpolated.
function halved({ windows }, mean) {
  for (let j = 0; j < windows.length; j++) {
    const now = mean(windows[j]);
    if (now > 0.5) continue;
    if (j === 0) return windows[0].t;
    const before = mean(windows[j - 1]);
    return windows[j - 1].t * (windows[j].t / windows[j - 1].t) ** ((before - 0.5) / (before - now));
  }
  return Infinity;
}

// The two times, their ratio, and its standard error: the jackknife of its logarithm over the runs.
function compare(before, after) {
  const times = [before, after].map((cloud) => halved(cloud, ({ mean }) => mean));
  const runs = before.windows[0].reg.length;
  const without = Array.from({ length: runs }, (_, left) => {
    const [first, second] = [before, after].map((cloud) => halved(cloud, ({ reg }) => meanWithout(reg, left)));
    return Math.log(second / first);
  });
  const centre = without.reduce((a, b) => a + b) / runs;
  const spread = Math.sqrt(((runs - 1) / runs) * without.reduce((sum, one) => sum + (one - centre) ** 2, 0));
  const ratio = times[1] / times[0];
  return { times, ratio, error: ratio * spread, runs };
}

// Mean training error until reg had halved.
function meanError(cloud) {
  const end = halved(cloud, ({ mean }) => mean);
  const until = cloud.windows.filter(({ t }) => t <= end);
  return until.reduce((sum, { error, steps }) => sum + error * steps, 0) / until.reduce((sum, { steps }) => sum + steps, 0);
}

// What the law says if the training error counts as noise.
function lawWithError({ before, after }, errors) {
  const [first, second] = [before, after].map(({ lr, noiseStd, batch }, k) => lr ** 2 * (noiseStd ** 2 / batch + errors[k]));
  return first / second;
}
