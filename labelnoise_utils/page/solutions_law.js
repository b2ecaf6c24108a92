// The equations of a tanh unit at given prices, and all their solutions with c > 0. As
// labelnoise_utils/simplicity/unit_equations.py, which has the reasons; nothing here draws.
const [SAME, MIDDLE, OPPOSITE] = [0, 1, 2]; // the root of the price's sign, and the two others, from the fold on
const REFINEMENTS = 60; // of Newton's method or a bisection

// The root of h^3 + (v - 1) h = |mu| / (4 c |x|^2), v = 1 / (2 c^2 |x|^2), that is not negative, from 1 on its right.
function rootOfSameSign(c, mu, norm) {
  const v = 1 / (2 * c * c * norm);
  const right = mu / (4 * c * norm);
  let h = 1;
  for (let k = 0; k < REFINEMENTS; k++) {
    const step = ((h * h + v - 1) * h - right) / (3 * h * h + v - 1);
    h -= step;
    if (Math.abs(step) <= 1e-16) break;
  }
  return h;
}

// The c from which on there are three roots.
function foldOf(mu, norm) {
  let [low, high] = [0, 1];
  for (let k = 0; k < REFINEMENTS; k++) {
    const v = (low + high) / 2;
    if (32 * norm * (1 - v) ** 3 > 27 * mu * mu * v) low = v;
    else high = v;
  }
  return 1 / Math.sqrt(2 * norm * low);
}

function rootOn(branch, c, mu, norm) {
  if (mu === 0) {
    const outer = Math.sqrt(Math.max(0, 1 - 1 / (2 * c * c * norm)));
    return branch === SAME ? outer : branch === MIDDLE ? 0 : -outer;
  }
  const h = rootOfSameSign(c, mu, norm);
  if (branch === SAME) return h;
  const spread = Math.sqrt(Math.max(0, 4 * (1 - 1 / (2 * c * c * norm)) - 3 * h * h));
  return (branch === MIDDLE ? -h + spread : -h - spread) / 2;
}

// The branches on which a solution can lie: a root for each point, and c from start to end. The prices are not negative.
function branchesFor(mu, norms) {
  const folds = mu.map((price, j) => foldOf(price, norms[j]));
  const found = [];
  for (let number = 0; number < 3 ** mu.length; number++) {
    const word = mu.map((_, j) => Math.floor(number / 3 ** j) % 3);
    const ends = word.flatMap((branch, j) => (branch === SAME && mu[j] !== 0 ? [2 / mu[j]] : []));
    const starts = word.flatMap((branch, j) => (branch === (mu[j] ? SAME : MIDDLE) ? [] : [folds[j]]));
    const [start, end] = [Math.max(0, ...starts), Math.min(...ends)];
    if (ends.length && start < end) found.push({ word, start, end });
  }
  return found;
}

// A unit at some part of the way along a branch, and there dGamma/dc over c.
function unitOn({ word, start, end }, part, mu, norms) {
  const c = start + (end - start) * part * part;
  const h = word.map((branch, j) => rootOn(branch, c, mu[j], norms[j]));
  const value = h.reduce((sum, one, j) => sum + 2 * norms[j] * (1 - one * one) ** 2 - (mu[j] * one) / c, 0);
  return { c, h, value };
}

// The parts of the way at which that is 0.
function zerosOn(branch, mu, norms, points) {
  const value = (part) => unitOn(branch, part, mu, norms).value;
  const first = branch.start ? 0 : 1e-3;
  const grid = Array.from({ length: points + 1 }, (_, i) => first + ((1 - first) * i) / points);
  const values = grid.map(value);
  const brackets = [];
  for (let i = 0; i < points; i++) if (values[i] * values[i + 1] <= 0) brackets.push([grid[i], grid[i + 1]]);
  for (let i = 1; i < points; i++) {
    const sign = Math.sign(values[i]);
    const [left, middle, right] = [values[i - 1], values[i], values[i + 1]].map((one) => sign * one);
    if (!(left > middle && right > middle && middle > 0)) continue;
    let [low, high] = [grid[i - 1], grid[i + 1]];
    for (let k = 0; k < REFINEMENTS; k++) {
      const [a, b] = [low + (high - low) / 3, high - (high - low) / 3];
      if (sign * value(a) < sign * value(b)) high = b;
      else low = a;
    }
    const bottom = (low + high) / 2;
    if (sign * value(bottom) < 0) brackets.push([grid[i - 1], bottom], [bottom, grid[i + 1]]);
  }
  return brackets.map(([from, to]) => {
    let [low, high] = [from, to];
    const sign = Math.sign(value(low));
    for (let k = 0; k < REFINEMENTS; k++) {
      const middle = (low + high) / 2;
      if (Math.sign(value(middle)) === sign) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  });
}

// Gamma's gradient and its Hessian, which is diagonal but for the row of c; its index by Haynsworth's formula.
function derivativesAt({ c, h }, mu, norms) {
  const slopes = h.map((one) => 1 - one * one);
  const inC = h.reduce((sum, one, j) => sum + 2 * c * norms[j] * slopes[j] ** 2 - mu[j] * one, 0);
  const inH = h.map((one, j) => 2 * one - 4 * c * c * norms[j] * one * slopes[j] - c * mu[j]);
  const corner = h.reduce((sum, _, j) => sum + 2 * norms[j] * slopes[j] ** 2, 0);
  const row = h.map((one, j) => -8 * c * norms[j] * one * slopes[j] - mu[j]);
  const diagonal = h.map((one, j) => 2 + c * c * norms[j] * (12 * one * one - 4));
  const schur = corner - row.reduce((sum, one, j) => sum + (one * one) / diagonal[j], 0);
  return { inC, inH, row, diagonal, schur, index: [...diagonal, schur].filter((one) => one < 0).length };
}

function refined(unit, mu, norms) {
  let { c, h } = unit;
  for (let k = 0; k < REFINEMENTS; k++) {
    const { inC, inH, row, diagonal, schur } = derivativesAt({ c, h }, mu, norms);
    const step = (inC - row.reduce((sum, one, j) => sum + (one * inH[j]) / diagonal[j], 0)) / schur;
    const steps = h.map((_, j) => (inH[j] - row[j] * step) / diagonal[j]);
    c -= step;
    h = h.map((one, j) => one - steps[j]);
    if (!(Math.max(Math.abs(step), ...steps.map(Math.abs)) > 1e-15)) break;
  }
  return { c, h };
}

// All units at rest with c > 0, by c; index is how many curvatures of Gamma are negative.
function unitsAtRest(prices, norms, points) {
  const mu = prices.map(Math.abs);
  const found = [];
  for (const branch of branchesFor(mu, norms)) {
    for (const part of zerosOn(branch, mu, norms, points)) {
      const unit = refined(unitOn(branch, part, mu, norms), mu, norms);
      const { inC, inH, index } = derivativesAt(unit, mu, norms);
      const residual = Math.max(...[inC, ...inH].map(Math.abs));
      if (!(residual < 1e-12 && unit.c > 1e-9 && unit.h.every((one) => Math.abs(one) < 1))) continue;
      const isNew = found.every(({ c, h }) => Math.max(Math.abs(c - unit.c), ...h.map((one, j) => Math.abs(one - unit.h[j]))) >= 1e-9);
      if (isNew) found.push({ ...unit, index });
    }
  }
  const signed = found.map(({ c, h, index }) => ({ c, h: h.map((one, j) => (prices[j] < 0 ? -one : one)), index }));
  return signed.sort((a, b) => a.c - b.c || a.h[0] - b.h[0] || a.h[1] - b.h[1]);
}
