// The hand-over on its chart (c_A, c_B, a, level): as labelnoise_utils/simplicity/hand_over, on two points of a plateau, two of
// line B and two of line A; and the flow down reg along the zero-error manifold. solve.js stands before this; nothing
// here draws.
function makeHandOver({ x, y }) {
  const sum = (from, to, f) => {
    let total = 0;
    for (let j = from; j < to; j++) total += f(x[j], y[j]);
    return total;
  };
  const slopes = { B: (y[3] - y[2]) / (x[3] - x[2]), A: (y[5] - y[4]) / (x[5] - x[4]) };
  const kappa = x[2] - (y[2] - y[0]) / slopes.B;
  const lineAt = { B: (t) => y[2] + slopes.B * (t - x[2]), A: (t) => y[4] + slopes.A * (t - x[4]) };
  const spread = { B: sum(2, 4, (t) => (t - kappa) ** 2), A: sum(4, 6, (t) => (t - kappa) ** 2) };
  const bent = sum(2, 4, (t) => slopes.B ** 2 * (1 + t * t)) + sum(4, 6, (t) => slopes.A ** 2 * (1 + t * t));
  const squares = { B: (level) => sum(0, 4, (_, v) => (v + level) ** 2), A: (level) => sum(4, 6, (_, v) => (v + level) ** 2) };
  const sums = { B: (level) => sum(0, 4, (_, v) => v + level), A: (level) => sum(4, 6, (_, v) => v + level) };

  // The least reg at a level: each of the three squares in turn, until none moves.
  const best = (level) => {
    let [p, q, v] = [1, 1, 1];
    for (let turn = 0; turn < 2000; turn++) {
      const before = [p, q, v];
      p = Math.sqrt(squares.A(level) / (2 + v * spread.A));
      q = Math.sqrt(squares.B(level) / (4 + v * spread.B));
      v = Math.sqrt(bent / (q * spread.B + p * spread.A));
      if (before.every((one, i) => Math.abs(one - [p, q, v][i]) < 1e-15 * one)) break;
    }
    const sign = { A: Math.sign(y[4] + level), B: Math.sign(y[0] + level) };
    return [sign.A * Math.sqrt(p), sign.B * Math.sqrt(q), Math.sqrt(v), level];
  };
  const reg = ([cA, cB, a, level]) => 1 + (squares.B(level) / cB ** 2 + cB ** 2 * (4 + a * a * spread.B) +
    squares.A(level) / cA ** 2 + cA ** 2 * (2 + a * a * spread.A) + bent / (a * a)) / 6;
  const gradient = ([cA, cB, a, level]) => [
    (-2 * squares.A(level)) / cA ** 3 + 2 * cA * (2 + a * a * spread.A),
    (-2 * squares.B(level)) / cB ** 3 + 2 * cB * (4 + a * a * spread.B),
    2 * a * (cB ** 2 * spread.B + cA ** 2 * spread.A) - (2 * bent) / a ** 3,
    (2 * sums.B(level)) / cB ** 2 + (2 * sums.A(level)) / cA ** 2,
  ].map((slope) => slope / 6);
  // How strongly B pulls the level down, and A up: the two sums of its derivative.
  const pulls = ([cA, cB, , level]) => [sums.B(level) / (3 * cB ** 2), -sums.A(level) / (3 * cA ** 2)];

  // The nine parameters in the order of MLP([1, 1, 2, 1]), and their derivatives by the four coordinates.
  const weights = ([cA, cB, a, level]) => ({
    wA: slopes.A / (cA * a), wB: slopes.B / (cB * a), bA: (lineAt.A(kappa) + level) / cA, bB: (y[0] + level) / cB,
  });
  const theta = (state) => {
    const [{ wA, wB, bA, bB }, [cA, cB, a, level]] = [weights(state), state];
    return [a, -a * kappa, wA, wB, bA, bB, cA, cB, -level];
  };
  const tangents = (state) => {
    const [{ wA, wB, bA, bB }, [cA, cB, a]] = [weights(state), state];
    return [
      [0, 0, -wA / cA, 0, -bA / cA, 0, 1, 0, 0],
      [0, 0, 0, -wB / cB, 0, -bB / cB, 0, 1, 0],
      [1, -kappa, -wA / a, -wB / a, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 1 / cA, 1 / cB, 0, 0, -1],
    ];
  };
  // Minus the gradient of reg in the metric of the parameters: what SGD follows in the time eta^2 sigma^2 t.
  const velocity = (state) => {
    const rows = tangents(state);
    const metric = rows.map((one) => rows.map((other) => one.reduce((total, v, k) => total + v * other[k], 0)));
    return solve(metric, gradient(state).map((slope) => -slope));
  };
  // One step of the midpoint rule.
  const advance = (state, time) => {
    const half = velocity(state).map((v, i) => state[i] + (time / 2) * v);
    return velocity(half).map((v, i) => state[i] + time * v);
  };
  const kinks = (level) => [x[2] - (y[2] + level) / slopes.B, x[4] - (y[4] + level) / slopes.A];
  return { best, reg, gradient, pulls, theta, velocity, advance, kinks, kappa, slopes, lineAt };
}
