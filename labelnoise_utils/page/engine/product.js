// h = u v for every example; theta = (u, v), as in models/product.py. Data are { x, y, n, dim }, of which x is not read.
function makeProduct() {
  const output = (theta) => theta[0] * theta[1];
  return {
    size: 2,

    // theta <- theta - lr * grad (u v - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const u = theta[0];
      const v = theta[1];
      const residual = u * v - (data.y[i] + noise);
      theta[0] -= 2 * lr * residual * v;
      theta[1] -= 2 * lr * residual * u;
      return residual;
    },

    output,

    // ||grad h||^2, the same for every example.
    reg: (theta) => theta[0] * theta[0] + theta[1] * theta[1],

    loss(theta, data) {
      let sum = 0;
      for (let i = 0; i < data.n; i++) sum += (output(theta) - data.y[i]) ** 2;
      return sum / data.n;
    },
  };
}
