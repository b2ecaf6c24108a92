// Every way that a line cuts some points of the plane, and which units each of them has: simplicity/patterns.py, in the plane
// and with the cones by their edges. Nothing here draws.
//
// A unit w . x + b that is awake on the set S belongs to a cone, >= 0 on S and <= 0 elsewhere. Its edges are lines through two
// points, since a line that cuts off S can be moved until it lies on two of them; so the cone is the sums of its edges.

// Points are [x1, x2], all distinct. Returns { edges: [{ unit: [w1, w2, b], at }], cones: [{ awake, edges }] }: at are the
// values at the points, awake the set S as booleans, and edges of a cone are numbers of edges.
function cutsOf(points) {
  const lines = linesThrough(points);
  const edges = lines.flatMap(({ unit, at }) => [1, -1].map((side) => ({ unit: unit.map((v) => side * v), at: at.map((v) => side * v) })));
  const sets = new Map();
  for (const { at, order } of lines) {
    for (const side of [1, -1]) {
      // The points on the line itself can be parted at each place, either way.
      for (let cut = 0; cut <= order.length; cut++) {
        for (const first of [true, false]) {
          const awake = at.map((v, j) => (v === 0 ? order.indexOf(j) < cut === first : side * v > 0));
          if (awake.some((one) => one)) sets.set(awake.map(Number).join(""), awake);
        }
      }
    }
  }
  const belongs = (awake, { at }) => at.every((v, j) => v === 0 || v > 0 === awake[j]);
  const numbers = edges.map((_, k) => k);
  const cones = [...sets.values()].map((awake) => ({ awake, edges: numbers.filter((k) => belongs(awake, edges[k])) }));
  return { edges, cones };
}

// The lines through two or more points, each once, with the points on it in order. Where all points are on one line, the
// lines at right angles to it through each: along it nothing is seen.
function linesThrough(points) {
  const size = Math.max(...points.flat().map(Math.abs));
  const through = ([px, py], [w1, w2]) => {
    const at = points.map(([x, y]) => w1 * (x - px) + w2 * (y - py)).map((v) => (Math.abs(v) < 1e-10 * size ? 0 : v));
    const along = ([x, y]) => w2 * x - w1 * y;
    const order = [...points.keys()].filter((j) => at[j] === 0).sort((j, k) => along(points[j]) - along(points[k]));
    return { unit: [w1, w2, -w1 * px - w2 * py], at, order };
  };
  const found = [];
  for (let i = 0; i < points.length; i++) {
    for (let j = i + 1; j < points.length; j++) {
      const [one, other] = [points[i], points[j]];
      const way = [other[0] - one[0], other[1] - one[1]].map((v) => v / Math.hypot(other[0] - one[0], other[1] - one[1]));
      const line = through(one, [-way[1], way[0]]);
      if (line.order.length === points.length) return points.map((point) => through(point, way));
      const [first, second] = [...line.order].sort((a, b) => a - b);
      if (first === i && second === j) found.push(line);
    }
  }
  return found;
}
