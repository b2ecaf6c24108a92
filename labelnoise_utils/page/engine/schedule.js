// The learning rate of a run. { lr } is constant. { pull, most } rises as reg falls: lr = min(most, pull / reg), so that a
// step takes the same part of the error; once reg is level the noise is made to settle, by halving lr HALVINGS times.
const HALVINGS = 6;

// What the noise does in a step is of the order of (lr * noiseStd)^2: this sum is the clock of the fall of reg. Level is
// reg when its mean while the clock doubled was no longer 3% below that of the doubling before, from LEAST on.
const LEAST = 40;

function makeRate({ lr, pull, most }) {
  if (lr) return { next: () => lr, isOver: () => false, halvings: () => 0 };
  let [clock, mark, sum, count, before] = [0, LEAST / 4, 0, 0, Infinity];
  let halvings = 0;
  let left = 0; // steps until the next halving
  return {
    halvings: () => halvings,
    isOver: () => halvings > HALVINGS,
    // The rate for so many steps.
    next(reg, noiseStd, steps) {
      const rate = Math.min(most, pull / reg);
      const share = (rate * noiseStd) ** 2 * steps;
      if (halvings) {
        left -= steps;
        if (left <= 0) [halvings, left] = [halvings + 1, 2e5];
        return rate * 0.5 ** halvings;
      }
      [clock, sum, count] = [clock + share, sum + reg, count + 1];
      if (clock >= mark) {
        const mean = sum / count;
        if (clock >= LEAST && mean > 0.97 * before) [halvings, left] = [1, 2e5];
        [mark, before, sum, count] = [2 * mark, mean, 0, 0];
      }
      return rate;
    },
  };
}
