// The motor: U (2, 2) under the labels X11, X12, X22 of X = U U^T, each with a noise level of its own. The U that fit are U0 R(phi)
// and their mirror images; on each of the two circles SGD turns at a rate that the levels decide, counter-clockwise if it is positive. matrix_sensing.js, loop.js
// and solve.js stand before this; nothing here draws.
//
// Cov(theta) = lr J^T M J with K M + M K = 2 diag(level^2), K = J J^T; and the angle of a step, by lr^2, is
// -(2 / n) sum_ai (M K)_ai <S_i S_a U, U J> / |U|^2, S_a U = grad h_a, J a quarter turn: since U J is orthogonal to every
// gradient, it is the tangent. Symmetric parts of M K drop out; what is left are Lie brackets of the gradients.
const MEASURED = Float64Array.of(2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2); // A + A^T for X11, X12, X22
const LOOK = 20; // steps between looks at the angle

const inside = (one, other) => one.reduce((sum, v, k) => sum + v * other[k], 0);
const product2 = ([a, b, c, d], [p, q, r, s]) => [a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s];
const measuredBy = (a) => MEASURED.subarray(4 * a, 4 * a + 4);
const turned = (u, angle) => product2(u, [Math.cos(angle), Math.sin(angle), -Math.sin(angle), Math.cos(angle)]);
const mirrored = ([a, b, c, d]) => [a, -b, c, -d];

// The angle from one U to another, between -pi and pi: of the rotation R that brings the first times R nearest to the second.
const angleBetween = ([a, b, c, d], [p, q, r, s]) => Math.atan2(a * q + c * s - b * p - d * r, a * p + c * r + b * q + d * s);

// M for the levels 1 on one label and 0 on the others: K M + M K = 2 e_a e_a^T, its n^2 equations solved as they are.
function cloudOf(gram, a) {
  const n = gram.length;
  const matrix = Array.from({ length: n * n }, () => new Array(n * n).fill(0));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      for (let k = 0; k < n; k++) {
        matrix[n * i + j][n * k + j] += gram[i][k];
        matrix[n * i + j][n * i + k] += gram[k][j];
      }
    }
  }
  const flat = solve(matrix, matrix.map((_, row) => (row === n * a + a ? 2 : 0)));
  return gram.map((_, i) => flat.slice(n * i, n * i + n));
}

// What the theory says at a U that fits: rates[a], the angle of a step by lr^2 and level_a^2; variances[a], of the three misfits
// by lr and level_a^2, the diagonal of K M K.
function motorLaw(u) {
  const n = 3;
  const gradients = Array.from({ length: n }, (_, a) => product2(measuredBy(a), u));
  const gram = gradients.map((one) => gradients.map((other) => inside(one, other)));
  const tangent = product2(u, [0, 1, -1, 0]);
  const pushes = gradients.map((one) => Array.from({ length: n }, (_, i) => inside(product2(measuredBy(i), one), tangent)));
  const [rates, variances] = [[], []];
  for (let a = 0; a < n; a++) {
    const cloud = cloudOf(gram, a);
    const times = cloud.map((row) => gram.map((_, i) => row.reduce((sum, v, k) => sum + v * gram[k][i], 0))); // M K
    rates.push((-2 / n) * times.reduce((sum, row, b) => sum + inside(row, pushes[b]), 0) / inside(u, u));
    variances.push(gram.map((row, b) => row.reduce((sum, v, k) => sum + v * times[k][b], 0)));
  }
  return { rates, variances };
}

const squaresOf = (levels) => levels.map((level) => level * level);

// A run from a U that fits, with a learning rate; the angle is counted from there, whole turns and all.
function makeMotor(u, { lr, seed }) {
  const model = makeMatrixSensing({ dim: 2 });
  const data = { x: MEASURED, y: new Float64Array(3), n: 3, dim: 2 };
  data.y.forEach((_, i) => (data.y[i] = model.output(u, data, i)));
  const draws = makeDraws(seed);
  const theta = Float64Array.from(u);
  const motor = {
    data, theta, t: 0, angle: 0,
    misfits: () => Array.from({ length: 3 }, (_, i) => model.output(theta, data, i) - data.y[i]),
    advance(steps, levels) {
      const end = motor.t + steps;
      while (motor.t < end) {
        const stop = Math.min(end, (Math.floor(motor.t / LOOK) + 1) * LOOK);
        for (; motor.t < stop; motor.t++) {
          const sign = draws.sign();
          const i = draws.index(3);
          model.step(theta, data, i, sign * levels[i], lr);
        }
        const change = (angleBetween(u, theta) - motor.angle) / (2 * Math.PI);
        motor.angle += 2 * Math.PI * (change - Math.round(change));
      }
    },
  };
  return motor;
}
