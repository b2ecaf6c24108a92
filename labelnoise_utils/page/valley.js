// A cloud of label-noise SGD on h = u v with one data point, y = 1, and what the theory says of it; nothing here draws.
// engine/product.js stands before this in the same function.
// A cloud is {u, v}, two arrays of equal length; parameters are {lr, noiseStd, batchSize}.

const POINT = { x: [], y: [1], n: 1, dim: 1 };
const product = makeProduct();
const particle = new Float64Array(2);

// One step for every particle, in place: that of the model, with the mean of the noises of a batch, since all its examples are
// the one. drawSign(batchSize) returns the mean sign. Returns the mean of (u v - 1)^2 before.
function step({ u, v }, { lr, noiseStd, batchSize }, drawSign) {
  let squares = 0;
  for (let i = 0; i < u.length; i++) {
    particle[0] = u[i];
    particle[1] = v[i];
    squares += (product.output(particle) - 1) ** 2;
    product.step(particle, POINT, 0, noiseStd * drawSign(batchSize), lr);
    u[i] = particle[0];
    v[i] = particle[1];
  }
  return squares / u.length;
}

// Means over the cloud: |s| with s = u^2 - v^2, reg = u^2 + v^2, the squared error, u and v.
function measure({ u, v }) {
  const sum = { s: 0, reg: 0, squaredError: 0, u: 0, v: 0 };
  for (let i = 0; i < u.length; i++) {
    sum.s += Math.abs((u[i] - v[i]) * (u[i] + v[i]));
    sum.reg += u[i] * u[i] + v[i] * v[i];
    sum.squaredError += (u[i] * v[i] - 1) ** 2;
    sum.u += u[i];
    sum.v += v[i];
  }
  for (const key in sum) sum[key] /= u.length;
  return sum;
}

// A step multiplies s by 1 - g^2, and the mean of g^2 is 4 lr^2 (noiseStd^2 / batchSize + mean squared error): once the
// error is small beside the noise, s decays at this rate.
function decayRate({ lr, noiseStd, batchSize }) {
  return (4 * lr * lr * noiseStd * noiseStd) / batchSize;
}

// To first order the error then follows e <- (1 - 2 lr reg) e + 2 lr reg Z, whose variance is this.
function settledError({ lr, noiseStd, batchSize }, reg) {
  const pull = lr * reg;
  return pull < 1 ? ((noiseStd * noiseStd) / batchSize) * (pull / (1 - pull)) : 0;
}

function isSettled(parameters, { squaredError, reg }) {
  return squaredError <= 1.5 * settledError(parameters, reg) + 1e-9;
}

// SGD stays at the valley while lr < 1 / (u^2 + v^2). Without noise u^2 - v^2 hardly changes on the way there, which
// gives u^2 + v^2 where the valley is met.
function largestRate(u, v) {
  return 1 / Math.max(u * u + v * v, Math.hypot(u * u - v * v, 2));
}
