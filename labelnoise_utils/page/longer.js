// Predict, then reveal. The engine, pen.js, stage.js and longer_measured.js stand before this in the same function.
const GUESS = "#0072B2";
const AFTER = "#009E73";

const times = (ratio) => (ratio < 0.995 && Math.abs(1 / ratio - Math.round(1 / ratio)) < 0.005 ? `1/${Math.round(1 / ratio)}` : inWords(ratio));

function setUpLonger(root) {
  const settings = JSON.parse(root.dataset.settings);
  const [range, number] = root.querySelectorAll("input");
  const [axis, curves] = root.querySelectorAll("canvas");
  const [go, again] = root.querySelectorAll("button");
  const readout = root.querySelector(".labelnoise-readout");
  const status = root.querySelector("[role=status]");
  let seed = settings.seed;
  let guess = 1;
  let clouds = null; // [before, after] while they are measured and then
  let result = null;

  const setGuess = (value, source) => {
    if (clouds || !(value > 0)) return;
    guess = Math.min(8, Math.max(1 / 8, value));
    if (source !== range) range.value = Math.log2(guess);
    if (source !== number) number.value = Number(guess.toPrecision(2));
    range.setAttribute("aria-valuetext", `${times(guess)} times as many steps`);
    nameAxis();
    draw();
  };
  const finish = () => {
    const measured = compare(...clouds);
    const errors = clouds.map(meanError);
    result = { ...measured, errors, law: settings.law, withError: lawWithError(settings, errors), guess };
  };
  const words = () => {
    if (!clouds) return "Answer first; then the page measures it, with runs that it makes when you ask.";
    if (clouds.some(({ diverged }) => diverged)) return "A run diverged, so there is no answer. Guess again takes other seeds.";
    if (!result) {
      const running = clouds[0].isDone ? clouds[1] : clouds[0];
      const left = running.windows.at(-1)?.mean ?? 1;
      return `Measuring ${running === clouds[0] ? "before" : "after"} the change: step ${count(running.t)}, reg at ${inWords(100 * left)}% of its start.`;
    }
    const { ratio, error, runs, law, withError, times: [first, second] } = result;
    const digits = Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(error))));
    return `Measured just now: ${ratio.toFixed(digits)} ± ${error.toFixed(digits)} times as many steps ` +
      `(${count(Math.round(first))} before, ${count(Math.round(second))} after; ${runs} runs each, ± one standard error). ` +
      `You said ${times(guess)}. The law predicts ${times(law)}; the error that the jitter itself makes adds a little to the noise: ${inWords(withError)}.`;
  };

  const scale = (box) => {
    const reach = Math.max(3, ...(result ? [Math.abs(Math.log2(result.ratio))] : [])) * 1.04;
    return {
      x: (value) => box.left + ((Math.log2(value) + reach) / (2 * reach)) * (box.right - box.left),
      value: (x) => 2 ** (((x - box.left) / (box.right - box.left)) * 2 * reach - reach),
    };
  };
  const boxOf = (width) => ({ left: 12, right: width - 12 });
  const drawAxis = ({ pen, width, height }) => {
    const { x } = scale(boxOf(width));
    const row = height - 38;
    line(pen, [[12, row], [width - 12, row]]);
    for (let k = -3; k <= 3; k++) {
      line(pen, [[x(2 ** k), row], [x(2 ** k), row + 5]]);
      text(pen, times(2 ** k), x(2 ** k), row + 14, { align: "center" });
    }
    text(pen, "times as many steps until reg has halved", width / 2, height - 8, { align: "center" });
    const over = (words, at, y) => {
      const half = pen.measureText(words).width / 2;
      text(pen, words, Math.min(Math.max(at, 6 + half), width - 6 - half), y, { align: "center", ground: true });
    };
    if (result) {
      line(pen, [[x(result.law), 30], [x(result.law), row]], { width: 1.5 });
      over("law", x(result.law), 22);
      const [low, high] = [-2, 2].map((k) => x(Math.max(result.ratio + k * result.error, result.ratio / 4)));
      line(pen, [[low, row - 14], [high, row - 14]], { colour: NOISE, width: 3 });
      dot(pen, x(result.ratio), row - 14, NOISE, 5);
      // Beside both marks, on the side that has room.
      const [first, last] = [Math.min(low, x(result.law)) - 9, Math.max(high, x(result.law)) + 9];
      const isLeft = last + pen.measureText("measured, ± 2 standard errors").width > width - 6;
      text(pen, "measured, ± 2 standard errors", isLeft ? first : last, row - 14, { align: isLeft ? "right" : "left" });
    }
    pen.beginPath();
    const at = x(guess);
    for (const [dx, dy] of [[0, 0], [-8, -16], [8, -16]]) pen.lineTo(at + dx, row - 1 + dy * (result ? -1 : 1) + (result ? 2 : 0));
    pen.fillStyle = GUESS;
    pen.fill();
    if (!result) over(`your answer: ${times(Number(guess.toPrecision(2)))}`, at, row - 28);
  };
  const drawCurves = (surface) => {
    const { pen, box } = surface;
    const last = Math.max(...clouds.map(({ t }) => t), 100);
    const starts = clouds.map((cloud) => halved(cloud, ({ mean }) => mean)).filter(Number.isFinite);
    const from = 10 ** Math.floor(Math.log10(Math.min(last / 30, ...starts.map((one) => one / 10))));
    const x = (t) => box.left + (Math.log(Math.max(t, from) / from) / Math.log((last * 1.1) / from)) * (box.right - box.left);
    const y = (part) => box.bottom - (Math.min(part, 1.1) / 1.1) * (box.bottom - box.top);
    line(pen, [[box.left, y(0.5)], [box.right, y(0.5)]], { colour: "#aaa", dash: [2, 3] });
    clouds.forEach((cloud, k) => {
      const style = [{ colour: NOISE, width: 2.5 }, { colour: AFTER, width: 2.5, dash: [7, 4] }][k];
      line(pen, cloud.windows.filter(({ t }) => t >= from).map(({ t, mean }) => [x(t), y(mean)]), style);
      const end = halved(cloud, ({ mean }) => mean);
      if (Number.isFinite(end)) {
        line(pen, [[x(end), y(0.5)], [x(end), box.bottom]], { ...style, width: 1 });
        dot(pen, x(end), y(0.5), style.colour, 4.5);
      }
    });
    const decades = Array.from({ length: 8 }, (_, k) => from * 10 ** k).filter((t) => t <= last * 1.1);
    axes(surface, decades.map((t) => [x(t), t < 1e4 ? count(t) : powerOfTen(Math.round(Math.log10(t)))]), [0, 0.5, 1].map((one) => [y(one), `${one}`]), "steps", "mean reg over its start");
    legend(pen, [["before", (px, row) => line(pen, [[px - 10, row], [px + 10, row]], { colour: NOISE, width: 2.5 })],
      [`after: other ${settings.what.replace("the ", "")}`, (px, row) => line(pen, [[px - 10, row], [px + 10, row]], { colour: AFTER, width: 2.5, dash: [7, 4] })]], 14, 10);
  };
  const draw = () => {
    const surface = clear(axis, 10);
    if (surface) drawAxis(surface);
    const other = clouds && clear(curves, 28);
    if (other) drawCurves(other);
  };
  const nameAxis = () => axis.setAttribute("aria-label", result
    ? `Axis of the answers: yours ${times(guess)}, measured ${inWords(result.ratio)}, the law ${times(result.law)}.`
    : `Axis of the answers from 1/8 to 8; yours is ${times(guess)}.`);
  const tell = (aloud) => {
    readout.textContent = words();
    range.disabled = number.disabled = Boolean(clouds);
    go.hidden = Boolean(clouds);
    again.hidden = !clouds;
    root.querySelector(".labelnoise-curves").hidden = !clouds;
    nameAxis();
    if (result) {
      curves.setAttribute("aria-label", `Mean of reg over that at the start, against steps on a log axis: it has halved after ${count(Math.round(result.times[0]))} steps before the change and ${count(Math.round(result.times[1]))} after it.`);
    }
    if (aloud) status.textContent = readout.textContent;
  };

  const isOver = () => result || clouds.some(({ diverged }) => diverged);
  const window = () => {
    const running = clouds.find(({ isDone }) => !isDone);
    if (running) running.window();
    if (!isOver() && clouds.every(({ isDone }) => isDone)) finish();
  };
  const wake = whileSeen(root, () => {
    if (!clouds || isOver()) return false;
    for (const began = performance.now(); !isOver() && performance.now() - began < BUDGET; ) window();
    tell(Boolean(isOver()));
    draw();
    return !isOver();
  });
  const start = () => {
    const starts = makeStarts(settings, seed);
    clouds = [settings.before, settings.after].map((one, k) => makeCloud(starts, one, (seed * 2 + k) >>> 0));
    tell(false);
    draw();
  };
  go.addEventListener("click", () => {
    start();
    again.focus();
    wake();
  });
  again.addEventListener("click", () => {
    [clouds, result] = [null, null];
    seed = (seed + 1) >>> 0;
    tell(true);
    range.focus();
    draw();
  });
  range.addEventListener("input", () => setGuess(2 ** Number(range.value), range));
  number.addEventListener("input", () => setGuess(Number(number.value), number));
  number.addEventListener("change", () => setGuess(guess));
  makeDraggable(axis, (px, py) => !clouds && py < axis.clientHeight - 10, (px) => {
    setGuess(scale(boxOf(axis.clientWidth)).value(px));
  });

  // Measures at once, with the answer that stands; returns the numbers.
  root.advance = () => {
    if (!clouds) start();
    while (!isOver()) window();
    tell(true);
    draw();
    return { ...result, diverged: clouds.map(({ diverged }) => diverged), steps: clouds.map(({ t }) => t) };
  };

  reveal(root);
  setGuess(1);
  tell(false);
  new ResizeObserver(draw).observe(root);
}

setUpAll("longer", setUpLonger);
