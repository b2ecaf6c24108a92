// Two outputs of three parameters theta = (u, v, w): h_1 = u v and h_2 = v^2 + w^2, for examples 0 and 1 of the data
// { x, y, n, dim }, of which x is not read. With the labels 1 and 2 both errors are zero where the surface u v = 1 meets
// the round cylinder v^2 + w^2 = 2: on a curve.
function makeThreeParameters() {
  const output = (theta, data, i) => (i === 0 ? theta[0] * theta[1] : theta[1] * theta[1] + theta[2] * theta[2]);
  return {
    size: 3,

    // theta <- theta - lr * grad (h_i - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const u = theta[0];
      const v = theta[1];
      const w = theta[2];
      const residual = output(theta, data, i) - (data.y[i] + noise);
      const rate = 2 * lr * residual;
      if (i === 0) {
        theta[0] -= rate * v;
        theta[1] -= rate * u;
      } else {
        theta[1] -= rate * 2 * v;
        theta[2] -= rate * 2 * w;
      }
      return residual;
    },

    output,

    // The mean of ||grad h_1||^2 = u^2 + v^2 and ||grad h_2||^2 = 4 (v^2 + w^2).
    reg: ([u, v, w]) => (u * u + v * v + 4 * (v * v + w * w)) / 2,

    loss: (theta, data) => ((output(theta, data, 0) - data.y[0]) ** 2 + (output(theta, data, 1) - data.y[1]) ** 2) / 2,
  };
}
