// Label noise with a level for each label, and U that turns among its fits for ever. engine/motor.js, pen.js, stage.js, link.js and
// motor_pictures.js stand before this in the same function.
const LEVELS = ["noise_11", "noise_12", "noise_22"]; // names of the sliders
const TRAIL = 150; // looks at U that are kept
const CANCELS = 0.02; // a rate below this part of what the three labels would add up to is none to speak of

function makeMotorScene(root, settings, controls) {
  const { lr, u, pace, horizon } = settings;
  const [clock, angles, strips] = root.querySelectorAll("canvas");
  const input = (name) => controls.inputs.find((one) => one.name === name);
  const presets = [...root.querySelectorAll(".labelnoise-presets button")];
  const isFirst = document.querySelector(".labelnoise-motor") === root;
  const link = makeLink("motor", controls.inputs.filter(({ name }) => name !== "speed"));
  let isRevealed = false; // what is predicted of the turning: after a quarter of a turn, or once the reader has set something
  let run; // { motor, start, law, levels, rate, patience, since: { t, angle }, setting, trail, look, history, every, next }

  const isSlow = (rate) => Math.abs(rate) * lr * lr * horizon < 2 * Math.PI; // not one turn before the run ends
  // Steps for a quarter of a turn at the first preset that turns it.
  const patienceOf = ({ rates }) => {
    const rate = settings.presets.map((preset) => inside(squaresOf(preset), rates)).find((one) => !isSlow(one));
    return Math.PI / 2 / (Math.abs(rate) * lr * lr);
  };
  const levelsIn = (values) => LEVELS.map((name) => values[name]);
  const predicted = () => run.since.angle + run.rate * lr * lr * (run.motor.t - run.since.t);
  const setNoise = (levels) => {
    run.levels = levels;
    run.rate = inside(squaresOf(levels), run.law.rates);
    run.since = { t: run.motor.t, angle: run.motor.angle };
    run.setting += 1;
    settings.presets.forEach((preset, k) => presets[k].setAttribute("aria-pressed", preset.every((level, a) => level === levels[a])));
    note();
  };
  const restart = (values, seed) => {
    const start = values.circle === "rotations" ? u : mirrored(u);
    const law = motorLaw(start);
    run = { motor: makeMotor(start, { lr, seed }), start, law, patience: patienceOf(law), setting: 0, trail: [], look: 0, history: [], every: 20, next: 0 };
    setNoise(levelsIn(values));
  };
  const change = (name, values) => {
    isRevealed = true;
    if (isFirst) link.write();
    if (!LEVELS.includes(name)) return false;
    setNoise(levelsIn(values));
    return true;
  };
  const note = () => {
    const { motor, history } = run;
    const now = { t: motor.t, angle: motor.angle, predicted: predicted(), setting: run.setting };
    if (history.at(-1)?.t === now.t) history.pop();
    history.push(now);
    run.next = motor.t + run.every;
    if (history.length <= 400) return;
    run.history = history.filter((_, i) => i % 2 === 1);
    run.every *= 2;
  };
  const paceNow = () => Math.min(pace, Math.max(1, run.motor.t / 25));
  const spacing = () => Math.ceil(paceNow() / 4);
  const advance = (steps) => {
    const { motor } = run;
    for (let end = motor.t + steps; motor.t < end; ) {
      const piece = Math.min(end - motor.t, spacing(), Math.max(1, run.next - motor.t));
      motor.advance(piece, run.levels);
      if (motor.t >= run.look) {
        run.trail.push({ theta: [...motor.theta], misfits: motor.misfits() });
        if (run.trail.length > TRAIL) run.trail.shift();
        run.look = motor.t + spacing();
      }
      if (motor.t >= run.next) note();
    }
    isRevealed ||= isSlow(run.rate) ? motor.t >= run.patience : Math.abs(motor.angle) >= Math.PI / 2;
  };

  // A hand at a handle changes its level; at either side, since the noise is plus or minus it.
  let held = 0;
  const scaleNow = () => stripScale(stripBox(strips.clientWidth, strips.clientHeight));
  makeDraggable(strips, (px, py) => {
    const scale = scaleNow();
    const row = scale.row(py);
    const isThere = row in run.levels && Math.abs(Math.abs(px - scale.x(0)) - (scale.x(run.levels[row]) - scale.x(0))) < 20;
    if (isThere) held = row;
    return isThere;
  }, (px) => root.dispatchEvent(new CustomEvent("dragged", { detail: { name: LEVELS[held], value: Math.abs(scaleNow().value(px)) } })));

  // The stage hears of what the sliders were set to.
  const heard = (name) => input(name).dispatchEvent(new Event("input"));
  presets.forEach((button, k) => button.addEventListener("click", () => {
    settings.presets[k].forEach((level, a) => controls.set(LEVELS[a], level));
    heard(LEVELS[0]);
  }));
  if (isFirst) {
    link.read();
    window.addEventListener("hashchange", () => root.isConnected && link.read() && heard("circle"));
  }
  controls.show();

  const deviations = () => {
    const squares = squaresOf(run.levels);
    return [0, 1, 2].map((b) => Math.sqrt(lr * run.law.variances.reduce((sum, row, a) => sum + squares[a] * row[b], 0)));
  };
  const draw = () => {
    const { motor, law, levels, rate, since, start } = run;
    const lengths = [Math.hypot(u[0], u[1]), Math.hypot(u[2], u[3])];
    const trail = run.trail.map(({ theta }) => theta);
    const [one, two, three] = [clear(clock, ROOM_ABOVE), clear(angles, ROOM_ABOVE), clear(strips, ROOM_ABOVE)];
    const angle = motor.angle;
    if (one) drawClock(one, { theta: motor.theta, trail, lengths, angle, since: since.angle, drift: isRevealed && { expected: turned(start, predicted()), rate, predicted: predicted() } });
    if (two) drawAngle(two, [...run.history, { t: motor.t, angle, predicted: predicted(), setting: run.setting }], isRevealed);
    if (three) drawStrips(three, { levels, misfits: motor.misfits(), trail: run.trail, deviations: deviations() });
  };

  const turnsNow = () => {
    const { motor, since } = run;
    const turns = `${turnsInWords(motor.angle - since.angle)} turns since the noise was set`;
    return isRevealed ? `${turns}, predicted ${turnsInWords(predicted() - since.angle)}` : turns;
  };
  const driftInWords = () => {
    const { levels, rate, law } = run;
    if (levels.every((one) => one === levels[0])) return "Equal noise: no drift, the hands wander by chance. ";
    if (Math.abs(rate) < CANCELS * inside(squaresOf(levels), law.rates.map(Math.abs))) return "Unequal noise whose pushes nearly cancel. ";
    const speed = isSlow(rate) ? "hardly at all" : `one turn in ${stepsInWords((2 * Math.PI) / (Math.abs(rate) * lr * lr))} steps`;
    return `Predicted: ${rate > 0 ? "counter-clockwise" : "clockwise"}, ${speed}. `;
  };
  const words = () => {
    const { motor, levels } = run;
    const before = `Reg is the same at every fit: there is nothing to descend. Step ${count(motor.t)}. `;
    if (levels.every((one) => one === 0)) return `${before}No noise: what is left of the misfits is fitted away, and U is at rest.`;
    return `${before}${isRevealed ? driftInWords() : ""}${turnsNow()}.${isOver() ? " It stops here; Start begins anew." : ""}`;
  };
  const isOver = () => run.motor.t - run.since.t >= horizon;

  return {
    restart, change, advance, draw, words, isOver,
    pace: paceNow,
    labels: () => {
      const { motor, levels } = run;
      const turns = turnsNow();
      return [
        `The two rows of U as hands of a clock at step ${count(motor.t)}${isRevealed ? ", and in black where they are predicted to be" : ""}: ${turns}.`,
        `The angle of the hands in turns, counter-clockwise, against steps${isRevealed ? ", and the predicted one as a thin line" : ""}: ${turns}.`,
        `Three strips, for the labels X11, X12 and X22: label plus and minus ${levels.map(inWords).join(", ")}, which can be dragged; ` +
          `misfits ${motor.misfits().map(inWords).join(", ")}, with predicted standard deviations ${deviations().map(inWords).join(", ")}.`,
      ];
    },
    report: () => ({
      t: run.motor.t, theta: [...run.motor.theta], angle: run.motor.angle, predicted: predicted(), rate: run.rate, since: run.since, isRevealed,
      levels: [...run.levels], misfits: run.motor.misfits(), deviations: deviations(), history: run.history.length, trail: run.trail.length,
    }),
  };
}

setUpAll("motor", (root) => makeStage(root, makeMotorScene));
