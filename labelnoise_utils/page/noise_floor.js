// Where the training error stands while noise of variance s^2 goes on: lr s^2 reg / (1 - lr reg), to first order.
function errorFloor({ lr, reg, noiseStd }) {
  const pull = lr * reg;
  return pull < 1 ? (noiseStd * noiseStd * pull) / (1 - pull) : Infinity;
}

// Whether a run has fitted what it can: its error is at that floor.
const isAtFloor = (run) => run.t > 20 && run.loss <= 1.5 * errorFloor(run) + 1e-4;
