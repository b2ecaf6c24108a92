// The valley of engine/three_parameters.js for the labels 1 and 2, and the cloud on it; nothing here draws. On it
// v = sqrt(2) cos(p), w = sqrt(2) sin(p), u = 1 / v for an angle p.
const SPACE = { x: [], y: [1, 2], n: 2, dim: 1 };

const spaceAt = (p) => [1 / (Math.SQRT2 * Math.cos(p)), Math.SQRT2 * Math.cos(p), Math.SQRT2 * Math.sin(p)];
const tangentAt = (p) => [Math.sin(p) / (Math.SQRT2 * Math.cos(p) ** 2), -Math.SQRT2 * Math.sin(p), Math.SQRT2 * Math.cos(p)];
const times = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const angleOf = (u) => Math.acos(1 / (Math.SQRT2 * u)); // of the upper branch, w >= 0
const spaceReg = (p) => 4 + (1 / (2 * Math.cos(p) ** 2) + 2 * Math.cos(p) ** 2) / 2;

// The angle of the valley's point nearest to a point, from a guess: Gauss and Newton.
function angleNear(point, guess) {
  let p = guess;
  for (let k = 0; k < 30; k++) {
    const [place, tangent] = [spaceAt(p), tangentAt(p)];
    const change = times(point.map((x, i) => x - place[i]), tangent) / times(tangent, tangent);
    p += Math.max(-0.1, Math.min(0.1, change));
    if (Math.abs(change) < 1e-12) break;
  }
  return p;
}

// The drift of a step along the valley: -lr^2 noiseStd^2 times the slope of reg by length.
function spaceDrift(p, lr, noiseStd) {
  const slope = (Math.sin(p) * (1 / Math.cos(p) ** 3 - 4 * Math.cos(p))) / 2;
  const tangent = tangentAt(p);
  return p - (lr * lr * noiseStd * noiseStd * slope) / times(tangent, tangent);
}

function makeSpaceCloud(model, start, { lr, noiseStd, particles, seed }) {
  const nextWord = makeWords(seed);
  const runs = Array.from({ length: particles }, () => Float64Array.from(spaceAt(start)));
  const cloud = {
    runs, t: 0, angle: start, expected: start, way: [], history: [], stride: 1, diverged: false,
    advance(steps) {
      for (let k = 0; k < steps && !cloud.diverged; k++) {
        for (const theta of runs) {
          const word = nextWord(); // one bit for the example, one for the sign
          model.step(theta, SPACE, (word >>> 30) & 1, word >>> 31 ? noiseStd : -noiseStd, lr);
        }
        cloud.expected = spaceDrift(cloud.expected, lr, noiseStd);
        if (++cloud.t % cloud.stride === 0) note();
      }
      cloud.angle = angleNear(cloud.mean(), cloud.angle);
    },
    mean: () => [0, 1, 2].map((i) => runs.reduce((sum, theta) => sum + theta[i], 0) / particles),
    // The cloud's standard deviations in the plane across the valley, the larger first.
    widths() {
      const tangent = tangentAt(cloud.angle);
      const along = tangent.map((x) => x / Math.sqrt(times(tangent, tangent)));
      const helper = Math.abs(along[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0];
      const part = times(helper, along);
      const rest = helper.map((x, i) => x - part * along[i]);
      const one = rest.map((x) => x / Math.sqrt(times(rest, rest)));
      const two = [0, 1, 2].map((i) => along[(i + 1) % 3] * one[(i + 2) % 3] - along[(i + 2) % 3] * one[(i + 1) % 3]);
      const mean = cloud.mean();
      let [a, b, c] = [0, 0, 0];
      for (const theta of runs) {
        const away = [0, 1, 2].map((i) => theta[i] - mean[i]);
        const [x, y] = [times(away, one), times(away, two)];
        a += (x * x) / particles;
        b += (y * y) / particles;
        c += (x * y) / particles;
      }
      const spread = Math.hypot((a - b) / 2, c);
      return [(a + b) / 2 + spread, (a + b) / 2 - spread].map((x) => Math.sqrt(Math.max(0, x)));
    },
  };
  const note = () => {
    const mean = cloud.mean();
    cloud.diverged = !(Math.hypot(...mean) < 20);
    if (cloud.diverged) return;
    cloud.angle = angleNear(mean, cloud.angle);
    cloud.way.push(mean);
    cloud.history.push([cloud.t, spaceReg(cloud.angle), spaceReg(cloud.expected)]);
    if (cloud.history.length <= 400) return;
    [cloud.way, cloud.history] = [cloud.way, cloud.history].map((list) => list.filter((_, i) => i % 2 === 1));
    cloud.stride *= 2;
  };
  return cloud;
}
