// A matrix of rank 1 from measurements that leave it open, with label noise and without. The engine, pen.js and stage.js
// stand before this in the same function.
const PLAIN = "#0072B2";

function makeSensing(root, { dim, lr, bound }, controls) {
  const [spectrum, errors] = root.querySelectorAll("canvas");
  let run;

  const distance = (x, target) => x.reduce((sum, one, k) => sum + (one - target[k]) ** 2, 0);
  const testError = (theta) => distance(gram(theta, dim), run.target) / run.size;

  const restart = (values, seed) => {
    const n = values.measurements;
    const model = makeMatrixSensing({ dim });
    const normal = makeNormals(makeWords(seed));
    const factor = Float64Array.from({ length: dim }, () => normal() / Math.sqrt(dim));
    const target = Float64Array.from({ length: dim * dim }, (_, k) => factor[Math.floor(k / dim)] * factor[k % dim]);
    const x = Float64Array.from({ length: n * dim * dim }, normal);
    const y = Float64Array.from({ length: n }, (_, i) => target.reduce((sum, one, k) => sum + one * x[i * dim * dim + k], 0));
    run = {
      model, target, n, values, t: 0, since: 0, diverged: false,
      size: distance(target, new Float64Array(dim * dim)),
      top: eigenvalues(target, dim)[0],
      nextWord: makeWords(seed ^ 0x5bd1e995), // of examples and noise, apart from the data
      data: { x: symmetrised(x, n, dim), y, n, dim },
      noisy: model.start(normal), plain: model.start(normal), plainMoves: true,
      history: [], high: 1.5,
    };
    run.measurements = x;
    record();
  };
  const change = (name, values) => {
    if (name !== "noise_std") return false;
    run.values = values;
    run.since = 0;
    return true;
  };
  const record = () => {
    const [noisy, plain] = [testError(run.noisy), testError(run.plain)];
    run.diverged = !(noisy < 1e6 && plain < 1e6);
    run.history.push({ t: run.t, noisy, plain });
    run.next = Math.max(run.t + 1, Math.round(run.t * 1.03));
    if (run.plainMoves) run.plainMoves = run.model.loss(run.plain, run.data) > 1e-20;
  };
  const advance = (steps) => {
    const { model, data, noisy, plain, nextWord, n } = run;
    for (let k = 0; k < steps && !run.diverged; k++) {
      const i = drawIndex(nextWord, n);
      model.step(noisy, data, i, run.values.noise_std * meanSign(nextWord, 1), lr);
      if (run.plainMoves) model.step(plain, data, i, 0, lr);
      run.since++;
      if (++run.t >= run.next) record();
    }
  };

  const now = () => ({ noisy: eigenvalues(gram(run.noisy, dim), dim), plain: eigenvalues(gram(run.plain, dim), dim), ...errorsNow() });
  const errorsNow = () => ({ noisyError: testError(run.noisy), plainError: testError(run.plain) });
  // Found, and nothing left of the other eigenvalues that would stand out; asked only now and then.
  const hasArrived = () => run.values.noise_std > 0 && testError(run.noisy) < 0.02 &&
    effectiveRank(eigenvalues(gram(run.noisy, dim), dim), 0.02) === 1;
  const words = () => {
    const at = `Step ${count(run.t)}. `;
    if (run.diverged) return `${at}Diverged: the learning rate is too large for these measurements. Take a new matrix.`;
    const { noisy, plain, noisyError, plainError } = now();
    const loss = run.model.loss(run.plain, run.data);
    const fit = loss > 1e-4
      ? `Both are fitting the ${run.n} numbers. `
      : `Without noise the ${run.n} numbers are fitted, by another matrix: `;
    const quiet = `test error ${inWords(plainError)}, rank ${effectiveRank(plain, 0.05)}. `;
    const loud = `With noise the test error is ${inWords(noisyError)}, the rank ${effectiveRank(noisy, 0.05)}. `;
    const found = plainError < 0.05 ? `Without noise they are fitted by the same matrix: ` : fit;
    const room = run.n > bound
      ? `More than ${inWords(bound)} measurements: hardly a second matrix without negative eigenvalues fits them, so noise has little to choose.`
      : `Fewer than ${inWords(bound)} measurements: many matrices without negative eigenvalues fit them.`;
    return loss > 1e-4 ? `${at}${fit}${loud}${room}` : `${at}${found}${quiet}${loud}${room}`;
  };

  const drawSpectrum = (surface) => {
    const { pen, box } = surface;
    const { noisy, plain } = now();
    const highest = Math.max(run.top, noisy[0], plain[0]);
    if (highest * 1.05 > run.high || highest * 1.8 < run.high) run.high = Math.max(1.5, Math.ceil(2.3 * highest) / 2);
    const wide = (box.right - box.left) / dim;
    const y = (value) => box.bottom - (Math.max(value, 0) / run.high) * (box.bottom - box.top);
    const bar = (k, value, from, part, colour) => {
      pen.fillStyle = colour;
      pen.fillRect(box.left + wide * (k + from), y(value), wide * part, Math.max(1, y(0) - y(value)));
    };
    for (let k = 0; k < dim; k++) {
      bar(k, noisy[k], 0.08, 0.5, NOISE);
      bar(k, plain[k], 0.62, 0.26, PLAIN);
      const level = y(k === 0 ? run.top : 0);
      line(pen, [[box.left + wide * k, level], [box.left + wide * (k + 1), level]], { width: 2 });
    }
    const step = run.high > 4 ? 2 : run.high > 2 ? 1 : 0.5;
    const ticks = Array.from({ length: Math.floor(run.high / step) + 1 }, (_, k) => k * step);
    axes(surface, [], ticks.map((one) => [y(one), `${one}`]), "eigenvalues, largest first", "eigenvalue of X");
    legend(pen, [["with noise", swatch(pen, NOISE)], ["without", swatch(pen, PLAIN)],
      ["the matrix sought", (x, row) => line(pen, [[x - 10, row], [x + 10, row]], { width: 2 })]], 14, 10);
  };

  const drawErrors = (surface) => {
    const { pen, box } = surface;
    const last = { t: run.t, noisy: testError(run.noisy), plain: testError(run.plain) };
    const points = [...run.history, last].filter(({ t }) => t > 0);
    const seen = points.flatMap(({ noisy, plain }) => [noisy, plain]).filter((one) => one > 0 && one < 1e6);
    const end = roundUp(Math.max(run.t, 100));
    const high = Math.ceil(Math.log10(Math.max(10, ...seen)) - 1e-9);
    const low = Math.max(-6, Math.floor(Math.log10(Math.min(0.1, ...seen))));
    const x = (t) => box.left + (Math.log(t) / Math.log(end)) * (box.right - box.left);
    const y = (error) => box.top + ((high - Math.log10(Math.min(Math.max(error, 10 ** low), 10 ** high))) / (high - low)) * (box.bottom - box.top);
    line(pen, points.map(({ t, plain }) => [x(t), y(plain)]), { colour: PLAIN, width: 2, dash: [6, 4] });
    line(pen, points.map(({ t, noisy }) => [x(t), y(noisy)]), { colour: NOISE, width: 2.5 });
    const decades = Array.from({ length: high - low + 1 }, (_, k) => low + k);
    const xTicks = Array.from({ length: Math.floor(Math.log10(end) + 1e-9) + 1 }, (_, k) => [x(10 ** k), k < 4 ? count(10 ** k) : powerOfTen(k)]);
    axes(surface, xTicks, decades.map((k) => [y(10 ** k), powerOfTen(k)]), "steps", "|X − X*|² / |X*|²");
    legend(pen, [["with label noise", (px, row) => line(pen, [[px - 10, row], [px + 10, row]], { colour: NOISE, width: 2.5 })],
      ["without", (px, row) => line(pen, [[px - 10, row], [px + 10, row]], { colour: PLAIN, width: 2, dash: [6, 4] })]], 14, 10);
  };

  return {
    restart, change, advance, words,
    pace: () => (run.t < 60 ? 1 : Math.max(1, run.t / 70)),
    isOver: () => run.diverged || run.t >= 2_000_000 || (run.since > 100_000 && hasArrived()),
    draw: () => {
      const [left, right] = [clear(spectrum, 28), clear(errors, 28)];
      if (left) drawSpectrum(left);
      if (right) drawErrors(right);
    },
    labels: () => {
      const { noisy, plain, noisyError, plainError } = now();
      const listed = (values) => Array.from(values.slice(0, 4), inWords).join(", ");
      return [
        `The ${dim} eigenvalues of X at step ${count(run.t)} as bars; the largest with noise ${listed(noisy)}, without ${listed(plain)}; sought: ${inWords(run.top)}, then zeros.`,
        `Test error against steps, both axes logarithmic: after ${count(run.t)} steps ${inWords(noisyError)} with noise, ${inWords(plainError)} without.`,
      ];
    },
    report: () => ({
      t: run.t, diverged: run.diverged, n: run.n, lr, dim, x: [...run.measurements], y: [...run.data.y], target: [...run.target],
      noisyTheta: [...run.noisy], plainTheta: [...run.plain], plainLoss: run.model.loss(run.plain, run.data), ...errorsNow(),
      noisy: [...now().noisy], plain: [...now().plain],
    }),
  };
}

setUpAll("sensing", (root) => makeStage(root, makeSensing));
