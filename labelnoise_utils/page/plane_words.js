// What the figure of plane.js says of itself; pen.js stands before this in the same function.

const SOLVED = 1e-5; // of reg: a gap between the network and the bound that is below this is none

const timesLeast = (reg, { reg: least }) => `${(reg / least).toFixed(2)} times the least`;

// The least reg, as far as it is known.
function leastInWords({ reg, bound, units }) {
  if (reg - bound > SOLVED * reg) return `the least reg is not found yet, it lies between ${inWords(bound)} and ${inWords(reg)}`;
  return `the least reg is ${reg.toFixed(3)}, with ${units === 0 ? "no unit" : units === 1 ? "one unit" : `${units} units`}`;
}

// What is happening now, in a sentence or two.
function narrate({ run, first, settled }) {
  const { optimum, reg, noiseStd } = run;
  const at = `Step ${count(run.t)}. `;
  const fall = `reg ${inWords(first.reg)} → ${inWords(reg)}, ${timesLeast(reg, optimum)}`;
  const end = `; ${leastInWords(optimum)}.`;
  const error = inWords(Number(run.loss.toPrecision(2)));
  if (run.diverged) return `Diverged at step ${count(run.t)}: less noise, or another start${end}`;
  if (!settled) return `${at}Fitting: training error ${error}, reg ${inWords(reg)}, ${timesLeast(reg, optimum)}${end}`;
  if (noiseStd === 0) return `${at}Training error ${error} and no noise: nothing pushes, reg stays at ${inWords(reg)}, ${timesLeast(reg, optimum)}${end}`;
  if (run.isOver) return `${at}Done: ${fall}, at a training error of ${error}${end} Move a point, and it goes on.`;
  if (run.halvings) return `${at}Reg is level: ${fall}; the learning rate is halved to let the noise settle, training error ${error}${end}`;
  const below = reg < optimum.reg ? " (below it, while noise keeps the network off the labels)" : "";
  return `${at}Training error at its floor, ${error}, and label noise pushes: ${fall}${below}${end}`;
}
