// Theorem 3 for one data point with |x| = 1: where a unit with output o = c h is at rest, what it costs, and which
// outputs are at a minimum. As labelnoise_utils/simplicity/one_data_point.py, which has the sources; nothing here draws.

// Output weight c and value h, equations (21) and (23).
function placeOf(o, activation) {
  const z = Math.abs(o);
  if (activation === "logistic") return { c: Math.sign(o) * (1 + z * z) / z, h: (z * z) / (1 + z * z) };
  return { c: Math.sign(o) * Math.sqrt(z) * (1 + z * z) ** 0.25, h: ((z * z) / (1 + z * z)) ** 0.25 };
}

// R_o, a unit's share of reg there, and its derivative.
function costOf(o, activation) {
  const z = Math.abs(o);
  return activation === "logistic" ? (z * z) / (1 + z * z) : (2 * z) / (Math.sqrt(z * z + 1) + z);
}
const logisticSlope = (o) => (2 * o) / (1 + o * o) ** 2;

// The minima of the sum of R_o over outputs with sum y > 0, each as [[output, how many units], ...]. Tanh: R_o is concave,
// so one unit has all of it. Logistic: R_o is convex up to 1 / sqrt 3 and concave above, so at most one unit is above.
function minima(y, width, activation) {
  if (activation === "tanh" || width === 1) return [[[y, 1], [0, width - 1]].filter(([, count]) => count > 0)];
  const found = [];
  if (y / width < 1 / Math.sqrt(3)) found.push([[y / width, width]]);
  // Of one large unit and equal others, reg has the derivative below in the large one. Its last change from - to +:
  const slope = (large) => logisticSlope(large) - logisticSlope((y - large) / (width - 1));
  const least = Math.max(1 / Math.sqrt(3), y / width);
  let high = y;
  while (high > least && slope(high) > 0) high -= y / 2000;
  if (high > least) {
    let low = high;
    high += y / 2000;
    for (let k = 0; k < 60; k++) {
      const middle = (low + high) / 2;
      if (slope(middle) > 0) high = middle;
      else low = middle;
    }
    found.push([[low, 1], [(y - low) / (width - 1), width - 1]]);
  }
  return found;
}

// Classes of units in the plane of (c, h): a class is joined by a chain of units at most tol apart, and so is one with the
// origin, which makes it silent. As labelnoise_utils.unit_classes; with mirrored, (c, h) and (-c, -h) are the same unit.
function classesOf(units, tol, mirrored) {
  const points = units.map(({ c, h }) => (mirrored && h < 0 ? [-c, -h] : [c, h]));
  const left = new Set(points.keys());
  const near = ([c, h]) => [...left].filter((k) => Math.hypot(points[k][0] - c, points[k][1] - h) <= tol);
  const chain = (from) => {
    const members = [];
    for (const queue = [from]; queue.length; ) {
      for (const k of near(queue.pop())) {
        left.delete(k);
        members.push(k);
        queue.push(points[k]);
      }
    }
    return members;
  };
  const silent = chain([0, 0]);
  const active = [];
  while (left.size) active.push(chain(points[[...left][0]]));
  return { silent, active };
}
