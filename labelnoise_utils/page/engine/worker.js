// The engine's end of the line to its page; port.js is the page's. offline.script puts the engine's files into one function,
// engine(port), whose text is that of a worker. What goes through the port:
//
// to the engine   { kind: "start", options, data, seed, runs: [{ noiseStd }], rate, theta, limit }   new runs, from one start
//                 { kind: "change", data, runs, rate }   of those that run: whatever is there; t counts from 0 again
//                 { kind: "advance", steps, milliseconds, id }   all runs, as far as the time allows
// to the page     { kind: "snapshot", id, runs: [{ t, theta, loss, reg, lr, largestRate, diverged, atRest, isOver,
//                   halvings, ... }] }   after each of them; the dots are what a figure measures
//
// options are the model's; theta is one start for all runs, or null for a random one of that seed. rate is for schedule.js;
// beyond the limit a residual means that a run has diverged.

const SLICE = 500; // steps between looks at the clock

// makeModel(options) returns a model; measure(model, run) what a snapshot has besides.
function serve(port, makeModel, measure) {
  let model, again;
  let runs = [];

  const snapshot = (id) => ({
    kind: "snapshot", id,
    runs: runs.map((run) => ({
      t: run.t, theta: run.theta.slice(), lr: run.lr, noiseStd: run.noiseStd,
      loss: model.loss(run.theta, run.data), reg: model.reg(run.theta, run.data),
      largestRate: largestRate(model, run.theta, run.data),
      diverged: run.diverged, atRest: run.atRest, isOver: run.isOver(), halvings: run.rate.halvings(),
      ...measure(model, run),
    })),
  });

  const start = ({ options, data, seed, runs: settings, rate, limit, theta }) => {
    model = makeModel(options);
    again = rate;
    const first = theta || model.start(makeNormals(makeWords(seed ^ 0x9e3779b9)));
    runs = settings.map(({ noiseStd }) => makeRun(model, data, first.slice(), { seed, noiseStd, rate: makeRate(rate), limit }));
  };
  const change = ({ data, runs: settings, rate }) => {
    again = rate || again;
    runs.forEach((run, number) => {
      if (data) run.data = data;
      if (settings) run.noiseStd = settings[number].noiseStd;
      run.rate = makeRate(again);
      [run.t, run.lr, run.atRest] = [0, 0, false];
    });
  };
  // All runs side by side; what is over stands still, and its steps count as done.
  const advance = ({ steps, milliseconds = Infinity }) => {
    const until = performance.now() + milliseconds;
    for (let left = steps; left > 0 && performance.now() < until; left -= SLICE) {
      for (const run of runs) {
        const end = run.t + Math.min(left, SLICE);
        run.advance(end - run.t);
        if (!run.diverged) run.t = end;
      }
      if (runs.every((run) => run.isOver())) break;
    }
  };

  const answers = { start, change, advance };
  port.onmessage = ({ data: message }) => {
    answers[message.kind](message);
    port.postMessage(snapshot(message.id));
  };
}
