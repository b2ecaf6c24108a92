// How simple a function of one number is, from its values y at increasing places x; as in simplicity/lines.py.

// Length of the polygon through the points.
function curveLength(x, y) {
  let sum = 0;
  for (let i = 1; i < x.length; i++) sum += Math.hypot(x[i] - x[i - 1], y[i] - y[i - 1]);
  return sum;
}

// How often the slope turns round. A turn counts once the slope has come back by more than tol from its last extreme.
function convexityChanges(x, y, tol) {
  let low = (y[1] - y[0]) / (x[1] - x[0]);
  let [high, direction, changes] = [low, 0, 0];
  for (let i = 1; i < x.length; i++) {
    const slope = (y[i] - y[i - 1]) / (x[i] - x[i - 1]);
    low = Math.min(low, slope);
    high = Math.max(high, slope);
    if (direction >= 0 && slope < high - tol) {
      changes += direction === 1;
      direction = -1;
      low = slope;
    } else if (direction <= 0 && slope > low + tol) {
      changes += direction === -1;
      direction = 1;
      high = slope;
    }
  }
  return changes;
}

// The ends and what lies evenly between them.
function linspace(lo, hi, n) {
  return Float64Array.from({ length: n }, (_, i) => lo + ((hi - lo) * i) / (n - 1));
}

// h of a model at some places on a line.
function valuesAt(model, theta, x) {
  const places = { x, y: x, n: x.length, dim: 1 };
  return Float64Array.from(x, (_, i) => model.output(theta, places, i));
}
