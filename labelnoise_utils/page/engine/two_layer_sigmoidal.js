// h(x) = sum_i c_i s(w_i . x), s = tanh or 1 / (1 + exp(-z)); theta = (w, c), w with a row for each unit, as in
// models/two_layer_sigmoidal.py. Data are { x, y, n, dim }, x row after row.
function makeTwoLayerSigmoidal({ width, dim, activation = "tanh", inputStd = 1, outputStd = 1 }) {
  const values = new Float64Array(width);
  const isTanh = activation === "tanh";
  const atC = width * dim;
  const s = isTanh ? Math.tanh : (z) => 1 / (1 + Math.exp(-z));
  const slope = isTanh ? (value) => 1 - value * value : (value) => value * (1 - value);

  // Leaves s(w_i . x) in values.
  const output = (theta, data, i) => {
    let h = 0;
    for (let k = 0; k < width; k++) {
      let z = 0;
      for (let j = 0; j < dim; j++) z += theta[k * dim + j] * data.x[i * dim + j];
      values[k] = s(z);
      h += theta[atC + k] * values[k];
    }
    return h;
  };

  return {
    size: width * (dim + 1),

    // theta <- theta - lr * grad (h(x_i) - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const residual = output(theta, data, i) - (data.y[i] + noise);
      const rate = 2 * lr * residual;
      for (let k = 0; k < width; k++) {
        const g = rate * theta[atC + k] * slope(values[k]);
        for (let j = 0; j < dim; j++) theta[k * dim + j] -= g * data.x[i * dim + j];
        theta[atC + k] -= rate * values[k];
      }
      return residual;
    },

    output,

    // The units' values s(w_i . x) on one example: with c the coordinates of Theorem 3.
    hidden(theta, data, i) {
      output(theta, data, i);
      return values.slice();
    },

    // Mean over the data of ||grad h||^2 = sum_i s(z_i)^2 + |x|^2 c_i^2 s'(z_i)^2.
    reg(theta, data) {
      let sum = 0;
      for (let i = 0; i < data.n; i++) {
        output(theta, data, i);
        let [inputs, all, slopes] = [0, 0, 0];
        for (let j = 0; j < dim; j++) inputs += data.x[i * dim + j] ** 2;
        for (let k = 0; k < width; k++) {
          all += values[k] * values[k];
          slopes += (theta[atC + k] * slope(values[k])) ** 2;
        }
        sum += all + inputs * slopes;
      }
      return sum / data.n;
    },

    loss: (theta, data) => meanSquaredError(output, theta, data),

    // w ~ N(0, inputStd^2), c ~ N(0, outputStd^2), from standard normal numbers.
    start(normal) {
      const theta = new Float64Array(width * (dim + 1));
      for (let k = 0; k < theta.length; k++) theta[k] = (k < atC ? inputStd : outputStd) * normal();
      return theta;
    },
  };
}
