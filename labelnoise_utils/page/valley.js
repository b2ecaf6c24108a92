// Label-noise SGD on h = u v with one data point, y = 1, and what the theory says of it; nothing here draws.
// A cloud is {u, v}, two arrays of equal length; parameters are {lr, noiseStd, batchSize}.

// One step for every particle, in place: theta <- theta - lr * mean over the batch of grad (u v - 1 - Z)^2, where each
// Z is noiseStd times a sign of its own. drawSign(batchSize) returns the mean sign. Returns the mean of (u v - 1)^2 before.
function step({ u, v }, { lr, noiseStd, batchSize }, drawSign) {
  let squares = 0;
  for (let i = 0; i < u.length; i++) {
    const error = u[i] * v[i] - 1;
    const g = 2 * lr * (error - noiseStd * drawSign(batchSize));
    const before = u[i];
    u[i] -= g * v[i];
    v[i] -= g * before;
    squares += error * error;
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
