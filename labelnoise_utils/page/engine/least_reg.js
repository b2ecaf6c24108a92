// The exact fit of least reg to a few points of the plane, over all two-layer ReLU networks: simplicity/cone_programme.py, by a
// barrier method on the dual. cuts.js and solve.js stand before this; nothing here draws.
//
// Units that are awake on S have outputs o = sum_e t_e o_e, t >= 0, over the edges e of its cone, and pay price(S) ||o||. The
// least sum that fits y is the largest mu . y over mu orthogonal to what is free with mu . o <= price(S) ||o|| for all units
// of both signs. That holds for a cone if and only if there is a q with ||q|| <= price and q . o_e >= mu . o_e for its edges.
// All these inequalities get a logarithm; the multipliers of their slacks are the t, from which the network is made. So at
// every moment mu gives a number that no network can undercut, and t a network.

const GOAL = 5e-7; // of reg, for the gap between the two
const FIT = 1e-8; // of the largest label
const MOST_TURNS = 200;
const CENTRED = 0.1; // a promise below which the weight may grow, by a factor
const HEAVIER = 30; // at most; no heavier than the goal asks for, since then rounding shows

const inner = (one, other) => one.reduce((sum, v, i) => sum + v * other[i], 0);

// An orthonormal basis of the vectors' span; those that add less than tol times their own length are left out.
function orthonormal(vectors, tol = 1e-9) {
  const basis = [];
  for (const vector of vectors) {
    const size = Math.sqrt(inner(vector, vector));
    let rest = vector;
    for (let twice = 0; twice < 2; twice++) {
      for (const one of basis) {
        const part = inner(rest, one);
        rest = rest.map((v, i) => v - part * one[i]);
      }
    }
    const left = Math.sqrt(inner(rest, rest));
    if (left > tol * size && size > 0) basis.push(rest.map((v) => v / left));
  }
  return basis;
}

// points [[x1, x2], ...], labels y; skip is true, "constant" or false, as in models/two_layer_relu.py. Returns
// { reg, bound, units: [{ w, b, c, share }], line: [a1, a2, b], misfit }: no network has less reg than bound.
function leastReg(points, y, skip) {
  const n = points.length;
  const sizes = points.map((point) => 1 + inner(point, point));
  const ones = points.map(() => 1);
  const functions = { true: [points.map(([x]) => x), points.map(([, x]) => x), ones], constant: [ones], false: [] }[skip];
  const free = { true: sizes.reduce((sum, v) => sum + v, 0) / n, constant: 1, false: 0 }[skip];
  const known = orthonormal(functions);
  // What mu may be: combinations of these. The unit vectors in an order that leaves the largest rests.
  const rest = orthonormal([...known, ...unitVectors(n, known)], 1e-6).slice(known.length);
  const scale = Math.max(...y.map(Math.abs)) || 1;
  const target = rest.map((row) => inner(row, y) / scale);
  const isStraight = Math.max(0, ...target.map(Math.abs)) < 1e-12;
  const found = isStraight ? { bound: 0, cost: 0, parts: [] } : barrier(conesOf(cutsOf(points), sizes, rest), target, free / scale);
  const units = found.parts.map((part) => unitOf(part, points, scale)).sort((one, other) => other.share - one.share);
  const values = points.map(([p, q]) => units.reduce((sum, { w, b, c }) => sum + c * Math.max(0, w[0] * p + w[1] * q + b), 0));
  const line = lineThrough(points, y.map((v, j) => v - values[j]), skip);
  const misfit = Math.max(...points.map(([p, q], j) => Math.abs(values[j] + line[0] * p + line[1] * q + line[2] - y[j])));
  return { reg: free + scale * found.cost, bound: free + scale * found.bound, free, units, line, misfit };
}

function unitVectors(n, known) {
  const rest = (j) => 1 - known.reduce((sum, row) => sum + row[j] ** 2, 0);
  return Array.from({ length: n }, (_, j) => j).sort((i, j) => rest(j) - rest(i)).map((j) => Array.from({ length: n }, (_, k) => Number(j === k)));
}

// For each cone and sign: its edges' outputs, of length 1; in coordinates of their span (own), and as mu sees them (seen).
function conesOf({ edges, cones }, sizes, rest) {
  return cones.flatMap(({ awake, edges: numbers }) => {
    const price = (2 / sizes.length) * Math.sqrt(sizes.reduce((sum, v, j) => sum + (awake[j] ? v : 0), 0));
    const [outputs, units] = [[], []];
    for (const k of numbers) {
      const o = edges[k].at.map((v, j) => (awake[j] ? v : 0));
      const length = Math.sqrt(inner(o, o));
      const isNew = (one) => inner(one, o) < (1 - 1e-14) * length;
      if (length === 0 || !outputs.every(isNew)) continue;
      outputs.push(o.map((v) => v / length));
      units.push(edges[k].unit.map((v) => v / length));
    }
    const basis = orthonormal(outputs);
    const own = Float64Array.from(outputs.flatMap((o) => basis.map((row) => inner(row, o))));
    return [1, -1].map((sign) => {
      const seen = Float64Array.from(outputs.flatMap((o) => rest.map((row) => sign * inner(row, o))));
      return { awake, price, sign, outputs, units, own, seen, dim: basis.length, count: outputs.length };
    });
  });
}

// The largest target . z where every cone has a q with |q| <= price and slacks q . own - z . seen >= 0 for its edges: Newton's
// method on  -weight target . z - sum_cones [log(price^2 - |q|^2) + sum_edges log slack],  for one weight after the other.
function barrier(cones, target, free) {
  const size = target.length;
  const z = new Float64Array(size);
  for (const cone of cones) {
    const { own, dim, count, price } = cone;
    cone.q = new Float64Array(dim);
    for (let e = 0; e < count * dim; e++) cone.q[e % dim] += own[e];
    const length = Math.sqrt(inner(cone.q, cone.q));
    for (let i = 0; i < dim; i++) cone.q[i] *= (0.5 * price) / length;
    Object.assign(cone, { slack: new Float64Array(count), dq: new Float64Array(dim), t: new Float64Array(count) });
  }

  // Sets the slacks that a step would lead to; returns the sum there without its first term, infinite if it leads out.
  const look = (step, dz) => {
    let sum = 0;
    for (const { own, seen, dim, count, price, q, dq, slack } of cones) {
      let room = price * price;
      for (let i = 0; i < dim; i++) room -= (q[i] + step * dq[i]) ** 2;
      if (!(room > 0)) return Infinity;
      sum -= Math.log(room);
      for (let e = 0; e < count; e++) {
        let s = 0;
        for (let i = 0; i < dim; i++) s += own[e * dim + i] * (q[i] + step * dq[i]);
        for (let i = 0; i < size; i++) s -= seen[e * size + i] * (z[i] + step * dz[i]);
        if (!(s > 0)) return Infinity;
        slack[e] = s;
        sum -= Math.log(s);
      }
    }
    return sum;
  };

  let now = look(0, z);
  let [weight, found] = [1, null];
  for (let turn = 0; turn < MOST_TURNS; turn++) {
    const { dz, promise } = newton(cones, size, weight, target);
    if (promise < CENTRED) {
      const next = networkAt(cones, target, weight, z, dz);
      // Where rounding has the better of it, the last network that fitted stays.
      found = next.fits || !found ? next : { ...found, bound: next.bound };
      const excess = (found.cost - found.bound) / (GOAL * (free + found.cost));
      if (!next.fits || excess <= 1) break;
      weight *= Math.min(HEAVIER, 2 * excess);
      continue;
    }
    const gain = weight * inner(target, dz);
    let step = 1;
    let next = look(step, dz);
    while (!(next - now - step * gain <= -0.1 * step * promise)) {
      step /= 2;
      if (!(step > 1e-9)) return found;
      next = look(step, dz);
    }
    now = next;
    for (let i = 0; i < size; i++) z[i] += step * dz[i];
    for (const { q, dq, dim } of cones) for (let i = 0; i < dim; i++) q[i] += step * dq[i];
  }
  return found;
}

// Newton's step: dz is returned, with what it promises to gain, and each cone's dq is left there. q is worked out cone by cone,
// by Cholesky's factors, so that what is left to be solved is in z alone.
function newton(cones, size, weight, target) {
  const matrix = target.map(() => new Float64Array(size));
  const right = target.map((v) => weight * v);
  const blocks = [];
  let promise = 0;
  for (const { own, seen, dim, count, price, q, slack } of cones) {
    // Rows of [what q has with itself | with z | the pull on q], to be reduced.
    const rows = Array.from({ length: dim }, () => new Float64Array(dim + size + 1));
    const room = price * price - inner(q, q);
    for (let i = 0; i < dim; i++) {
      rows[i][dim + size] = (-2 * q[i]) / room;
      for (let j = 0; j <= i; j++) rows[i][j] = (i === j ? 2 / room : 0) + (4 * q[i] * q[j]) / (room * room);
    }
    for (let e = 0; e < count; e++) {
      const [pull, square] = [1 / slack[e], 1 / (slack[e] * slack[e])];
      for (let i = 0; i < dim; i++) {
        const [row, o] = [rows[i], own[e * dim + i]];
        row[dim + size] += o * pull;
        for (let j = 0; j <= i; j++) row[j] += o * own[e * dim + j] * square;
        for (let j = 0; j < size; j++) row[dim + j] -= o * seen[e * size + j] * square;
      }
      for (let i = 0; i < size; i++) {
        const v = seen[e * size + i];
        right[i] -= v * pull;
        for (let j = 0; j <= i; j++) matrix[i][j] += v * seen[e * size + j] * square;
      }
    }
    for (let i = 0; i < dim; i++) {
      const row = rows[i];
      const least = 1e-15 * row[i]; // what rounding leaves
      for (let j = 0; j < i; j++) {
        for (let k = 0; k < j; k++) row[j] -= row[k] * rows[j][k];
        row[j] /= rows[j][j];
        row[i] -= row[j] * row[j];
        for (let k = dim; k <= dim + size; k++) row[k] -= row[j] * rows[j][k];
      }
      row[i] = Math.sqrt(Math.max(row[i], least));
      for (let k = dim; k <= dim + size; k++) row[k] /= row[i];
    }
    for (const row of rows) {
      promise += row[dim + size] ** 2;
      for (let i = 0; i < size; i++) {
        right[i] -= row[dim + i] * row[dim + size];
        for (let j = 0; j <= i; j++) matrix[i][j] -= row[dim + i] * row[dim + j];
      }
    }
    blocks.push(rows);
  }
  for (let i = 0; i < size; i++) for (let j = i + 1; j < size; j++) matrix[i][j] = matrix[j][i];
  const dz = solve(matrix, right);
  cones.forEach(({ dim, dq }, k) => {
    for (let i = dim - 1; i >= 0; i--) {
      const row = blocks[k][i];
      let v = row[dim + size];
      for (let j = 0; j < size; j++) v -= row[dim + j] * dz[j];
      for (let j = i + 1; j < dim; j++) v -= blocks[k][j][i] * dq[j];
      dq[i] = v / row[i];
    }
  });
  return { dz, promise: promise + inner(right, dz) };
}

// The network that the slacks' multipliers make. To first order in Newton's step these are t, with which it fits to the last
// bits; none is negative where the step promises less than 1.
function networkAt(cones, target, weight, z, dz) {
  const size = target.length;
  const left = [...target];
  for (const { own, seen, dim, dq, slack, t } of cones) {
    slack.forEach((s, e) => {
      let change = 0;
      for (let i = 0; i < dim; i++) change += own[e * dim + i] * dq[i];
      for (let i = 0; i < size; i++) change -= seen[e * size + i] * dz[i];
      t[e] = Math.max(0, (1 - change / s) / (weight * s));
      for (let i = 0; i < size; i++) left[i] -= t[e] * seen[e * size + i];
    });
  }
  const parts = cones.map(({ awake, sign, price, dim, outputs, units, t }) => {
    const sum = (vectors) => vectors[0].map((_, i) => vectors.reduce((total, one, e) => total + t[e] * one[i], 0));
    const o = sum(outputs);
    return { awake, sign, o, unit: dim === 3 ? sum(units) : null, share: price * Math.sqrt(inner(o, o)) };
  });
  return { bound: inner(target, z), fits: Math.max(...left.map(Math.abs)) < FIT, cost: parts.reduce((sum, { share }) => sum + share, 0), parts };
}

// The unit c relu(w . x + b), c = +-1, with such outputs: where they leave it free, the one of least slope.
function unitOf({ awake, sign, o, unit, share }, points, scale) {
  const weights = unit || gentlest(points, awake, o);
  const [w1, w2, b] = weights.map((v) => scale * v);
  return { w: [w1, w2], b, c: sign, share: scale * share };
}

// The unit with outputs o that is awake on one point or on points of a line.
function gentlest(points, awake, o) {
  const [first, ...others] = [...points.keys()].filter((j) => awake[j]);
  const from = points[first];
  const to = (j) => [points[j][0] - from[0], points[j][1] - from[1]];
  const below = [...points.keys()].filter((j) => !awake[j]).map((j) => [to(j), -o[first]]);
  const finish = (w) => [...w, o[first] - inner(w, from)];
  if (!others.length) return finish(shortest(below));
  const far = others.reduce((best, j) => (Math.hypot(...to(j)) > Math.hypot(...to(best)) ? j : best));
  const way = to(far);
  const base = way.map((v) => (v * (o[far] - o[first])) / inner(way, way));
  // w = base + part * across: across moves the crease between points, and no output.
  const across = [-way[1], way[0]];
  let [low, high] = [-Infinity, Infinity];
  for (const [d, v] of below) {
    const [speed, room] = [inner(d, across), v - inner(d, base)];
    if (speed > 0) high = Math.min(high, room / speed);
    if (speed < 0) low = Math.max(low, room / speed);
  }
  const part = Math.min(high, Math.max(low, 0));
  return finish(base.map((v, i) => v + part * across[i]));
}

// The shortest w with w . d <= v: one or two of these hold with equality, or it is 0.
function shortest(below) {
  const candidates = [[0, 0]];
  below.forEach(([d, v], i) => {
    candidates.push(d.map((one) => (v * one) / inner(d, d)));
    for (const [e, u] of below.slice(i + 1)) {
      const area = d[0] * e[1] - d[1] * e[0];
      if (area !== 0) candidates.push([(v * e[1] - u * d[1]) / area, (u * d[0] - v * e[0]) / area]);
    }
  });
  const beyond = (w) => Math.max(0, ...below.map(([d, v]) => (inner(w, d) - v) / Math.hypot(...d)));
  const good = candidates.filter((w) => beyond(w) <= 1e-9 * (1 + Math.hypot(...w)));
  return good.reduce((best, w) => (Math.hypot(...w) < Math.hypot(...best) ? w : best), good[0] || [0, 0]);
}

// The skip unit [a1, a2, b] that has these values at the points, as nearly as it can; of least slope, if they are on a line.
function lineThrough(points, values, skip) {
  if (!skip) return [0, 0, 0];
  const mean = (numbers) => numbers.reduce((sum, v) => sum + v, 0) / numbers.length;
  const level = mean(values);
  if (skip === "constant") return [0, 0, level];
  const middle = [0, 1].map((i) => mean(points.map((point) => point[i])));
  const from = points.map((point) => point.map((v, i) => v - middle[i]));
  const way = from.reduce((far, one) => (inner(one, one) > inner(far, far) ? one : far));
  const along = from.map((one) => inner(one, way));
  const beside = from.map(([p, q]) => q * way[0] - p * way[1]);
  const tilt = inner(beside, along) / inner(along, along);
  const rest = beside.map((v, j) => v - tilt * along[j]);
  const slope = inner(values, along) / inner(along, along);
  const isFlat = inner(rest, rest) < 1e-20 * inner(along, along);
  const other = isFlat ? 0 : inner(values.map((v, j) => v - level - slope * along[j]), rest) / inner(rest, rest);
  const w = [0, 1].map((i) => (slope - other * tilt) * way[i] + other * [-way[1], way[0]][i]);
  return [...w, level - inner(w, middle)];
}
