// h(x) = sum_i c_i relu(a_i x + b_i) + a0 x + b0 on a line; theta = (a, b, c, a0, b0), as in models/two_layer_relu.py.
// Data are { x, y, n, dim: 1 }. The derivative of relu at 0 is 0.
function makeTwoLayerRelu({ width, skip = true, inputStd = 2, outputStd = 1 }) {
  const relu = new Float64Array(width);
  const [atB, atC, atSkip] = [width, 2 * width, 3 * width];

  // Leaves the units' values in relu. Not p > 0 ? p : 0, since NaN has to stay NaN.
  const forward = (theta, x) => {
    let h = 0;
    for (let i = 0; i < width; i++) {
      const p = theta[i] * x + theta[atB + i];
      relu[i] = p < 0 ? 0 : p;
      h += theta[atC + i] * relu[i];
    }
    return skip ? h + theta[atSkip] * x + theta[atSkip + 1] : h;
  };
  const output = (theta, data, i) => forward(theta, data.x[i]);

  return {
    size: 3 * width + (skip ? 2 : 0),

    // theta <- theta - lr * grad (h(x_i) - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const x = data.x[i];
      const residual = forward(theta, x) - (data.y[i] + noise);
      const s = 2 * lr * residual;
      for (let k = 0; k < width; k++) {
        const r = relu[k];
        if (r > 0) {
          const g = s * theta[atC + k];
          theta[k] -= g * x;
          theta[atB + k] -= g;
          theta[atC + k] -= s * r;
        }
      }
      if (skip) {
        theta[atSkip] -= s * x;
        theta[atSkip + 1] -= s;
      }
      return residual;
    },

    output,

    // Mean over the data of ||grad h||^2 = sum_i relu(p_i)^2 + (1 + x^2) (1 + sum_i c_i^2 [p_i > 0]).
    reg(theta, data) {
      let sum = 0;
      for (let i = 0; i < data.n; i++) {
        const x = data.x[i];
        forward(theta, x);
        let [squares, slopes] = [0, skip ? 1 : 0];
        for (let k = 0; k < width; k++) {
          squares += relu[k] * relu[k];
          if (relu[k] > 0) slopes += theta[atC + k] * theta[atC + k];
        }
        sum += squares + (1 + x * x) * slopes;
      }
      return sum / data.n;
    },

    loss: (theta, data) => meanSquaredError(output, theta, data),

    // a, b ~ N(0, inputStd^2), c ~ N(0, outputStd^2), a0 = b0 = 0, from standard normal numbers.
    start(normal) {
      const theta = new Float64Array(3 * width + (skip ? 2 : 0));
      for (let k = 0; k < 3 * width; k++) theta[k] = (k < atC ? inputStd : outputStd) * normal();
      return theta;
    },
  };
}
