// Runs what an engine in a worker computes: while the figure is seen, slowly at first, then as fast as the machine can. stage.js
// stands before this in the same function; send is what makeEngine returns.
const SLOWEST = 12; // steps in a frame at first
const AFTER_CHANGE = 200; // and in the first frame after a point was moved: the function follows the hand
const TURN = 12; // milliseconds of a frame in which the worker may step

// The figure has take(snapshot, isNew), draw(), now(), the number of the step that is shown, null before there is any, isOver(),
// and tell(moves, steps), which writes what is happening into the readout: whether it runs, and the steps of the last frame.
function makeDrive(root, { send, take, draw, tell, now, isOver }) {
  const readout = root.querySelector(".labelnoise-readout");
  const status = root.querySelector("[role=status]");
  let running = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let isAsking = false;
  let asked = 0; // when, in milliseconds
  let pending = null; // what has changed and the engine does not know yet
  let slowest = SLOWEST;
  let steps = 0; // of the last frame
  let [told, spoke, touched] = [0, 0, false];
  const moves = () => running && !isOver();

  const say = (aloud) => {
    if (now() === null) return;
    tell(moves(), steps);
    if (!aloud) return;
    status.textContent = (moves() ? "Running. " : "Paused. ") + readout.textContent;
    spoke = performance.now();
  };

  const flush = async () => {
    if (isAsking || !pending) return;
    const message = pending;
    [pending, isAsking] = [null, true];
    take(await send(message), true);
    isAsking = false;
    if (!moves()) {
      draw();
      say(touched && performance.now() - spoke > 2000);
    }
    if (pending) flush();
    keepGoing();
  };

  // The first steps can be told apart; later frames go a fixed part further, until the worker has no time for more. A page
  // that misses frames makes up for them.
  const pace = (frames) => Math.round(Math.min(4, frames) * Math.max(slowest, now() / 60));
  const ask = async (time) => {
    isAsking = true;
    const before = now();
    const frames = Math.max(1, (time - asked) / 16.7);
    asked = time;
    const snapshot = await send({ kind: "advance", steps: pace(frames), milliseconds: TURN });
    isAsking = false;
    take(snapshot, false);
    steps = now() - before;
    if (pending) flush();
  };
  const keepGoing = whileSeen(root, (time) => {
    draw();
    if (time - told > 250 || !moves()) {
      say(touched && (time - spoke > 10_000 || !moves()));
      told = time;
    }
    if (moves() && !isAsking && now() !== null) ask(time);
    return moves();
  });

  return {
    // New networks, or a change that those that run live through.
    start: (message) => {
      [pending, slowest] = [{ kind: "start", ...message }, SLOWEST];
      flush();
    },
    change: (message) => {
      pending = { kind: "change", ...pending, ...message };
      if (pending.kind === "change") slowest = AFTER_CHANGE;
      flush();
    },
    // Starts or pauses; where it was over, anew by restart().
    toggle: (restart) => {
      const wasOver = isOver();
      [running, touched] = [!moves(), true];
      if (wasOver) restart();
      say(true);
      keepGoing();
    },
    touch: () => {
      touched = true;
    },
    // So many steps at once, in pieces that make a history.
    advance: async (total) => {
      while (isAsking || pending || now() === null) await new Promise((resolve) => setTimeout(resolve, 5));
      isAsking = true;
      for (let left = total; left > 0;) {
        const piece = Math.min(left, Math.max(20, Math.round(now() / 20)));
        take(await send({ kind: "advance", steps: piece }), false);
        left -= piece;
      }
      isAsking = false;
      draw();
      say(false);
    },
  };
}
