// h(A) = <A, U U^T> as in models/matrix_sensing.py; theta = U (dim, dim), row after row. h sees A only through
// S = A + A^T, and data.x holds the S, row after row: h = <S U, U> / 2, whose gradient is S U.
function makeMatrixSensing({ dim, init = "identity", scale = 1 }) {
  const size = dim * dim;
  const gradient = new Float64Array(size);

  // Leaves S U in gradient.
  const output = (theta, data, i) => {
    const at = i * size;
    let h = 0;
    gradient.fill(0);
    for (let j = 0; j < dim; j++) {
      for (let k = 0; k < dim; k++) {
        const entry = data.x[at + j * dim + k];
        for (let l = 0; l < dim; l++) gradient[j * dim + l] += entry * theta[k * dim + l];
      }
    }
    for (let k = 0; k < size; k++) h += gradient[k] * theta[k];
    return 0.5 * h;
  };

  return {
    size,

    // theta <- theta - lr * grad (h(A_i) - y_i - noise)^2, in place. Returns the residual before.
    step(theta, data, i, noise, lr) {
      const residual = output(theta, data, i) - (data.y[i] + noise);
      const rate = 2 * lr * residual;
      for (let k = 0; k < size; k++) theta[k] -= rate * gradient[k];
      return residual;
    },

    output,

    // Mean over the data of ||S U||_F^2.
    reg(theta, data) {
      let sum = 0;
      for (let i = 0; i < data.n; i++) {
        output(theta, data, i);
        for (let k = 0; k < size; k++) sum += gradient[k] * gradient[k];
      }
      return sum / data.n;
    },

    loss: (theta, data) => meanSquaredError(output, theta, data),

    // scale times the identity, or entries N(0, scale^2 / dim) from standard normal numbers.
    start(normal) {
      const theta = new Float64Array(size);
      for (let k = 0; k < size; k++) {
        theta[k] = init === "identity" ? (k % (dim + 1) ? 0 : scale) : (scale / Math.sqrt(dim)) * normal();
      }
      return theta;
    },
  };
}

// A + A^T for n measurements A (dim, dim), row after row.
function symmetrised(measurements, n, dim) {
  const sums = new Float64Array(n * dim * dim);
  for (let i = 0; i < n; i++) {
    const at = i * dim * dim;
    for (let j = 0; j < dim; j++) {
      for (let k = 0; k < dim; k++) sums[at + j * dim + k] = measurements[at + j * dim + k] + measurements[at + k * dim + j];
    }
  }
  return sums;
}

// X = U U^T.
function gram(theta, dim) {
  const matrix = new Float64Array(dim * dim);
  for (let j = 0; j < dim; j++) {
    for (let k = 0; k < dim; k++) {
      let sum = 0;
      for (let l = 0; l < dim; l++) sum += theta[j * dim + l] * theta[k * dim + l];
      matrix[j * dim + k] = sum;
    }
  }
  return matrix;
}
