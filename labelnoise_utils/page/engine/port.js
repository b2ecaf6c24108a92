// The page's end of the line to an engine: send(message) gives a promise of the snapshot; worker.js says what they are.
// The engine runs in a worker made of the function's own text, since a page over file:// or in a notebook may load none;
// where a page forbids workers, in the page itself.
function makeEngine(engine) {
  const waiting = new Map(); // what has no answer yet
  let count = 0;
  const receive = ({ data }) => {
    const { resolve } = waiting.get(data.id);
    waiting.delete(data.id);
    resolve(data);
  };
  const stayInPage = () => {
    post = inPage(engine, receive);
    for (const { message } of waiting.values()) post(message);
  };
  let post = inWorker(engine, receive, stayInPage);
  if (!post) stayInPage();
  return (message) => new Promise((resolve) => {
    const numbered = { ...message, id: ++count };
    waiting.set(count, { message: numbered, resolve });
    post(numbered);
  });
}

function inWorker(engine, receive, onRefusal) {
  try {
    const url = URL.createObjectURL(new Blob([`"use strict";\n(${engine})(self);`], { type: "text/javascript" }));
    const worker = new Worker(url);
    let answered = false;
    worker.onmessage = (event) => {
      if (!answered) URL.revokeObjectURL(url);
      answered = true;
      receive(event);
    };
    worker.onerror = () => answered || onRefusal(); // some browsers refuse only now
    return (message) => worker.postMessage(message);
  } catch {
    return null;
  }
}

// What is bounded in time takes at most a part of a frame, so that the page stays alive.
const PART_OF_FRAME = 6; // milliseconds

function inPage(engine, receive) {
  const port = { postMessage: (data) => receive({ data }) };
  engine(port);
  return (message) => {
    const { milliseconds } = message;
    const bounded = milliseconds ? { ...message, milliseconds: Math.min(PART_OF_FRAME, milliseconds) } : message;
    setTimeout(() => port.onmessage({ data: bounded }));
  };
}
