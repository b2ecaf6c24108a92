// What the network on a line says of itself; pen.js stands before this in the same function.

const twoDigits = (value) => inWords(Number(value.toPrecision(2)));

// What reg did while the steps doubled, as far as it is more than the shaking of a single point.
function fallOf(reg, first, t, history) {
  const before = history.findLast((one) => one.t <= t / 2) || first;
  const fall = `${twoDigits(first.reg)} → ${twoDigits(reg)}`;
  if (reg < 0.9 * before.reg) return `reg falling: ${fall}`;
  return reg > 0.9 * first.reg ? `reg still ${twoDigits(reg)}` : `reg level: ${fall}`;
}

// What is happening now, in a sentence or two.
function narrate({ runs: [noisy, plain], first, settled, isAutomatic, histories }) {
  const at = `Step ${count(noisy.t)}. `;
  const error = twoDigits(noisy.loss);
  const fall = `${twoDigits(first.reg)} → ${twoDigits(noisy.reg)}`;
  const changes = `${noisy.changes} changes between convex and concave`;
  const both = `${changes}, without noise ${plain.changes}`;
  if (noisy.diverged) {
    return `Diverged at step ${count(noisy.t)}: from this start the learning rate must be below ${twoDigits(first.largestRate)}, ` +
      "1 over the largest ‖∇h(xᵢ)‖², and the noise asks for less. Choose a smaller one, or start over.";
  }
  if (!settled) return `${at}Fitting: training error ${error}, reg ${twoDigits(noisy.reg)}.`;
  if (noisy.noiseStd === 0) {
    return `${at}Training error ${error} and no noise: nothing pushes, reg stays at ${twoDigits(noisy.reg)}; ${changes}.`;
  }
  if (noisy.isOver) return `${at}Done: reg ${fall}, training error ${error}; ${both}. Move a point, and it goes on.`;
  if (noisy.halvings) {
    return `${at}reg is level, ${fall}; the learning rate is halved to let the noise settle: training error ${error}. ${both}.`;
  }
  const rate = isAutomatic ? ` Learning rate, rising as reg falls: ${twoDigits(noisy.lr)}.` : "";
  return `${at}Training error at its floor, ${error}; ${fallOf(noisy.reg, first, noisy.t, histories[0])}. ${both}.${rate}`;
}
