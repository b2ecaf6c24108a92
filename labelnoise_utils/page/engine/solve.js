// Gaussian elimination with pivots.
function solve(matrix, right) {
  const rows = matrix.map((row, i) => [...row, right[i]]);
  const n = rows.length;
  for (let i = 0; i < n; i++) {
    const pivot = rows.slice(i).reduce((most, row, k) => (Math.abs(row[i]) > Math.abs(rows[most][i]) ? i + k : most), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let k = i + 1; k < n; k++) {
      const factor = rows[k][i] / rows[i][i];
      for (let j = i; j <= n; j++) rows[k][j] -= factor * rows[i][j];
    }
  }
  const answer = new Array(n).fill(0);
  for (let i = n - 1; i >= 0; i--) {
    answer[i] = (rows[i][n] - rows[i].slice(i + 1, n).reduce((total, v, k) => total + v * answer[i + 1 + k], 0)) / rows[i][i];
  }
  return answer;
}
