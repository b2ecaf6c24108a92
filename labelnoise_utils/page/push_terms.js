// The step on h = u v, y = 1, by the terms of equation (6), and what they make of a cloud. Nothing here draws.
// The centre theta* of the expansion is the point of the valley u v = 1 nearest to theta, of each run at each step: so the
// displacement theta - theta* stands across the valley, and with all terms together the step is the model's own.
const TERMS = ["00", "10", "01", "20", "11"]; // (0, 2) is zero for this model

// u of the valley's point (u, 1 / u) nearest to a point, from a guess: Newton on half the derivative of the squared distance.
function footNear(u, v, guess) {
  let f = guess;
  for (let k = 0; k < 20; k++) {
    const slope = f - u - (1 / f - v) / (f * f);
    const bend = 1 + 3 / f ** 4 - (2 * v) / f ** 3;
    const next = bend > 0 ? f - slope / bend : f - Math.sign(slope) * 0.1 * f;
    const change = Math.abs(next - f);
    f = Math.max(0.2 * f, next);
    if (change < 1e-14 * f) break;
  }
  return f;
}

// The same with no guess.
function footOf(u, v) {
  let [best, least] = [1, Infinity];
  for (let k = -150; k <= 150; k++) {
    const f = 1.01 ** k;
    const distance = (f - u) ** 2 + (1 / f - v) ** 2;
    if (distance < least) [best, least] = [f, distance];
  }
  return footNear(u, v, best);
}

// At (f, 1 / f): reg, the unit vector up across the valley, along which h grows, and that along it, towards larger u.
function valleyAt(f) {
  const reg = f * f + 1 / (f * f);
  const length = Math.sqrt(reg);
  return { reg, across: [1 / f / length, f / length], along: [f / length, -1 / f / length] };
}

// The terms of -lr grad (u v - 1 - noise)^2 at (f, 1 / f) + (du, dv), those that are on, added to out.
function addTerms(on, f, du, dv, noise, lr, out) {
  const slope = du / f + dv * f; // h^theta
  const bend = 2 * du * dv; // h^{theta, theta}
  let straight = 0; // times grad h at the centre, (1 / f, f)
  let turned = 0; // times its change on the way to theta, (dv, du)
  if (on["00"]) straight += 2 * lr * noise;
  if (on["10"]) straight -= 2 * lr * slope;
  if (on["20"]) straight -= lr * bend;
  if (on["01"]) turned += 2 * lr * noise;
  if (on["11"]) turned -= 2 * lr * slope;
  out[0] += straight / f + turned * dv;
  out[1] += straight * f + turned * du;
}

const VALLEY = { x: [], y: [1], n: 1, dim: 1 };

// One step of theta = [u, v] in place, foot being a guess for its own; returns the foot.
function stepByTerms(model, theta, foot, noise, lr, on) {
  if (TERMS.every((term) => on[term])) {
    model.step(theta, VALLEY, 0, noise, lr);
    return foot;
  }
  const f = footNear(theta[0], theta[1], foot);
  addTerms(on, f, theta[0] - f, theta[1] - 1 / f, noise, lr, theta);
  return f;
}

// The farthest that a point and its twin may be from the valley: the lower one keeps u, v > 0.
const farthest = (f) => Math.min(0.8, 0.85 * Math.sqrt(valleyAt(f).reg) * Math.min(f * f, 1 / (f * f)));

// A point at a distance across the valley and its mirror twin, with the error and the step of each, and the steps' sum.
function mirrored(model, f, distance, lr, on) {
  const { across, along } = valleyAt(f);
  const pair = [1, -1].map((side) => {
    const at = [f + side * distance * across[0], 1 / f + side * distance * across[1]];
    const moved = Float64Array.from(at);
    stepByTerms(model, moved, f, 0, lr, on);
    return { at, error: model.output(at, VALLEY, 0) - 1, step: [moved[0] - at[0], moved[1] - at[1]] };
  });
  const sum = [0, 1].map((i) => pair[0].step[i] + pair[1].step[i]);
  const part = (direction) => sum[0] * direction[0] + sum[1] * direction[1];
  return { pair, sum, along: part(along), across: part(across) };
}

// Runs that start on the valley together. frozen: each keeps its first noise for good.
function makeCloud(model, f, { lr, noiseStd, particles, seed, frozen }) {
  const nextWord = makeWords(seed);
  const [u, v] = [new Float64Array(particles).fill(f), new Float64Array(particles).fill(1 / f)];
  const [feet, lost] = [new Float64Array(particles).fill(f), new Uint8Array(particles)];
  const theta = new Float64Array(2);
  const cloud = {
    u, v, lost, t: 0, start: f, foot: f, expected: f, way: [[f, 1 / f]], history: [[0, 0, 0]], stride: 1,
    advance(steps, on) {
      for (let k = 0; k < steps; k++) {
        for (let i = 0; i < particles; i++) {
          if (lost[i]) continue;
          const sign = frozen ? (i % 2 ? 1 : -1) : nextWord() >>> 31 ? 1 : -1;
          [theta[0], theta[1]] = [u[i], v[i]];
          feet[i] = stepByTerms(model, theta, feet[i], noiseStd * sign, lr, on);
          [u[i], v[i]] = theta;
          lost[i] = !(u[i] > 0.05 && v[i] > 0.05 && u[i] < 9 && v[i] < 9);
        }
        cloud.expected = driftOnce(cloud.expected, lr, isDriven(on, frozen) ? noiseStd : 0);
        if (++cloud.t % cloud.stride === 0) note();
      }
    },
    mean() {
      let [sumU, sumV, n] = [0, 0, 0];
      for (let i = 0; i < particles; i++) {
        if (lost[i]) continue;
        sumU += u[i];
        sumV += v[i];
        n++;
      }
      return [sumU / n, sumV / n, particles - n];
    },
  };
  const note = () => {
    const [meanU, meanV] = cloud.mean();
    cloud.foot = footNear(meanU, meanV, cloud.foot);
    cloud.way.push([meanU, meanV]);
    cloud.history.push([cloud.t, wayBetween(f, cloud.foot), wayBetween(f, cloud.expected)]);
    if (cloud.history.length <= 400) return;
    [cloud.way, cloud.history] = [cloud.way, cloud.history].map((list) => list.filter((_, i) => i % 2 === 0));
    cloud.stride *= 2;
  };
  return cloud;
}

// The mean moves only where noise makes a cloud and (1, 1) pushes it.
const isDriven = (on, frozen) => on["00"] && on["11"] && !frozen;

// The drift of a step: -lr w grad reg along the valley, with w = lr noiseStd^2 / (1 - lr reg), the variance across it.
function driftOnce(f, lr, noiseStd) {
  const { reg } = valleyAt(f);
  const speed = (2 * lr * lr * noiseStd * noiseStd * (f * f - 1 / (f * f))) / (Math.sqrt(reg) * (1 - lr * reg));
  return f - (speed * f) / Math.sqrt(reg);
}

// The length of the valley between two of its points, downhill (to u = v) positive.
function wayBetween(from, to) {
  let sum = 0;
  const pieces = 64;
  for (let k = 0; k < pieces; k++) {
    const middle = from + ((to - from) * (k + 0.5)) / pieces;
    sum += (Math.sqrt(1 + 1 / middle ** 4) * (to - from)) / pieces;
  }
  return from >= 1 ? -sum : sum;
}
