// h(x) = sum_i c_i relu(a_i . x + b_i) + a0 . x + b0 in the plane; theta = (a, b, c, a0, b0), a by rows of two numbers, as in
// models/two_layer_relu.py with dim=2. skip: true, "constant" (b0 alone) or false. Data are { x, y, n, dim: 2 }, x by rows.
function makeTwoLayerReluInPlane({ width, skip = true, inputStd = 2, outputStd = 1 }) {
  const relu = new Float64Array(width);
  const [atB, atC, atSkip] = [2 * width, 3 * width, 4 * width];
  const [hasLine, hasConstant] = [skip === true, Boolean(skip)];
  const size = 4 * width + 2 * hasLine + hasConstant;
  const atConstant = size - 1;

  // Leaves the units' values in relu. Not p > 0 ? p : 0, since NaN has to stay NaN.
  const forward = (theta, x1, x2) => {
    let h = 0;
    for (let i = 0; i < width; i++) {
      const p = theta[2 * i] * x1 + theta[2 * i + 1] * x2 + theta[atB + i];
      relu[i] = p < 0 ? 0 : p;
      h += theta[atC + i] * relu[i];
    }
    if (hasLine) h += theta[atSkip] * x1 + theta[atSkip + 1] * x2;
    return hasConstant ? h + theta[atConstant] : h;
  };
  const output = (theta, data, i) => forward(theta, data.x[2 * i], data.x[2 * i + 1]);

  return {
    size,
    forward,
    width,
    skip,

    // theta <- theta - lr * grad (h(x_i) - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const [x1, x2] = [data.x[2 * i], data.x[2 * i + 1]];
      const residual = forward(theta, x1, x2) - (data.y[i] + noise);
      const s = 2 * lr * residual;
      for (let k = 0; k < width; k++) {
        const r = relu[k];
        if (r > 0) {
          const g = s * theta[atC + k];
          theta[2 * k] -= g * x1;
          theta[2 * k + 1] -= g * x2;
          theta[atB + k] -= g;
          theta[atC + k] -= s * r;
        }
      }
      if (hasLine) {
        theta[atSkip] -= s * x1;
        theta[atSkip + 1] -= s * x2;
      }
      if (hasConstant) theta[atConstant] -= s;
      return residual;
    },

    output,

    // Mean over the data of ||grad h||^2 = sum_i relu(p_i)^2 + (1 + |x|^2) sum_i c_i^2 [p_i > 0], |x|^2 for a0, 1 for b0.
    reg(theta, data) {
      let sum = 0;
      for (let i = 0; i < data.n; i++) {
        const square = data.x[2 * i] ** 2 + data.x[2 * i + 1] ** 2;
        output(theta, data, i);
        let [squares, slopes] = [0, 0];
        for (let k = 0; k < width; k++) {
          squares += relu[k] * relu[k];
          if (relu[k] > 0) slopes += theta[atC + k] * theta[atC + k];
        }
        sum += squares + (1 + square) * slopes + (hasLine ? square : 0) + (hasConstant ? 1 : 0);
      }
      return sum / data.n;
    },

    loss: (theta, data) => meanSquaredError(output, theta, data),

    // a, b ~ N(0, inputStd^2), c ~ N(0, outputStd^2), a0 = b0 = 0, from standard normal numbers.
    start(normal) {
      const theta = new Float64Array(size);
      for (let k = 0; k < 4 * width; k++) theta[k] = (k < atC ? inputStd : outputStd) * normal();
      return theta;
    },
  };
}
