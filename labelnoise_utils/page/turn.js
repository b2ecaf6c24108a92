// A scene in space that a hand turns: pen.js stands before this.

// Turns with the mouse, a finger (sideways; up and down it scrolls the page) and the arrow keys of the canvas that has the
// focus. turned([turn, tilt]) is called after each move, with its angles.
function makeTurnable(canvas, view, turned) {
  const by = (turn, tilt) => {
    view.turn += turn;
    view.tilt = Math.max(-0.6, Math.min(1.4, view.tilt + tilt));
    view.touched = true;
    turned([turn, tilt]);
  };
  let last = null;
  canvas.tabIndex = 0;
  canvas.style.touchAction = "pan-y";
  canvas.style.cursor = "grab";
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
    by((event.clientX - last[0]) * 0.01, (event.clientY - last[1]) * 0.01);
    last = [event.clientX, event.clientY];
  });
  canvas.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    if (!(event.key in ways)) return;
    event.preventDefault();
    by(...ways[event.key]);
  });
}

// From a point of space to the canvas: x and y in pixels, depth growing away from the eye, size as near things are larger.
// view is { turn, tilt } in radians, around the third axis and above the plane of the others; centre comes to the middle.
function makeProjection({ turn, tilt }, { width, height }, centre, unit) {
  const [cosine, sine] = [Math.cos(turn), Math.sin(turn)];
  const [up, down] = [Math.cos(tilt), Math.sin(tilt)];
  const far = 7;
  return (point) => {
    const [a, b, c] = point.map((x, i) => x - centre[i]);
    const [side, back] = [cosine * a - sine * b, sine * a + cosine * b];
    const depth = up * back - down * c;
    const size = far / (far + depth);
    return { x: width / 2 + unit * size * side, y: height / 2 - unit * size * (up * c + down * back), depth, size };
  };
}

// Mixes two colours given as [red, green, blue].
const mixed = (one, other, part) => `rgb(${one.map((x, i) => Math.round(x + (other[i] - x) * Math.max(0, Math.min(1, part)))).join(",")})`;
