// How simple a small symmetric matrix is; as in simplicity/matrices.py.

// All eigenvalues of a symmetric matrix (dim, dim), the largest first. Jacobi's method: each rotation makes one pair of
// entries off the diagonal zero, and the sum of the squares of the others falls.
function eigenvalues(matrix, dim) {
  const a = Float64Array.from(matrix);
  const rotate = (p, q) => {
    const [app, aqq, apq] = [a[p * dim + p], a[q * dim + q], a[p * dim + q]];
    if (apq === 0) return;
    const ratio = (aqq - app) / (2 * apq);
    const t = (ratio >= 0 ? 1 : -1) / (Math.abs(ratio) + Math.hypot(ratio, 1)); // tangent of the smaller angle
    const cos = 1 / Math.hypot(t, 1);
    const sin = t * cos;
    for (let k = 0; k < dim; k++) {
      const [akp, akq] = [a[k * dim + p], a[k * dim + q]];
      a[k * dim + p] = cos * akp - sin * akq;
      a[k * dim + q] = sin * akp + cos * akq;
    }
    for (let k = 0; k < dim; k++) {
      const [apk, aqk] = [a[p * dim + k], a[q * dim + k]];
      a[p * dim + k] = cos * apk - sin * aqk;
      a[q * dim + k] = sin * apk + cos * aqk;
    }
    a[p * dim + q] = a[q * dim + p] = 0;
  };
  const size = Math.hypot(...a);
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < dim; p++) for (let q = p + 1; q < dim; q++) off = Math.max(off, Math.abs(a[p * dim + q]));
    if (!(off > 1e-15 * size)) break;
    for (let p = 0; p < dim; p++) for (let q = p + 1; q < dim; q++) rotate(p, q);
  }
  return Float64Array.from({ length: dim }, (_, k) => a[k * dim + k]).sort().reverse();
}

// How many of them, in absolute value, are above tol times the largest.
function effectiveRank(values, tol) {
  const sizes = values.map(Math.abs);
  const largest = Math.max(...sizes);
  return sizes.filter((size) => size > tol * largest).length;
}
