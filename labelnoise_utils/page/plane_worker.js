// What the figure of plane.js measures besides loss and reg; the engine's files stand before this. The exact fit of least reg is
// worked out anew where the data are new.
const GRID = 81; // values of a function in a row of its picture
const SHOWN = { left: -1.1, right: 1.1 };
const CREASED = 0.02; // units that bend by less, of the strongest, are not drawn
const THERE = 1e-5; // units that pay less, of reg, are what the solver leaves of 0

// Values of a network from top to bottom, rows from left to right.
function surfaceOf(model, theta) {
  const at = linspace(SHOWN.left, SHOWN.right, GRID);
  const values = new Float32Array(GRID * GRID);
  for (let row = 0; row < GRID; row++) {
    for (let column = 0; column < GRID; column++) values[row * GRID + column] = model.forward(theta, at[column], -at[row]);
  }
  return values;
}

// Its creases w . x + b = 0, as [w1, w2, b].
function creasesOf(theta, width) {
  const units = Array.from({ length: width }, (_, i) => {
    const [w1, w2, b, c] = [theta[2 * i], theta[2 * i + 1], theta[2 * width + i], theta[3 * width + i]];
    return { line: [w1, w2, b], bend: Math.abs(c) * Math.hypot(w1, w2) };
  });
  const most = Math.max(...units.map(({ bend }) => bend));
  return units.filter(({ bend }) => bend > CREASED * most).map(({ line }) => line);
}

function optimumOf(data, skip) {
  const points = Array.from({ length: data.n }, (_, i) => [data.x[2 * i], data.x[2 * i + 1]]);
  const { reg, bound, units: all, line, misfit } = leastReg(points, [...data.y], skip);
  const units = all.filter(({ share }) => share > THERE * reg);
  const model = makeTwoLayerReluInPlane({ width: units.length, skip });
  const skipped = { true: line, constant: line.slice(2), false: [] }[skip];
  const theta = Float64Array.of(...units.flatMap(({ w }) => w), ...units.map(({ b }) => b), ...units.map(({ c }) => c), ...skipped);
  return { reg, bound, units: units.length, misfit, theta, surface: surfaceOf(model, theta), creases: units.map(({ w, b }) => [...w, b]) };
}

let [solved, optimum] = [null, null];
serve(port, makeTwoLayerReluInPlane, (model, run) => {
  if (run.data !== solved) [solved, optimum] = [run.data, optimumOf(run.data, model.skip)];
  return { surface: surfaceOf(model, run.theta), creases: creasesOf(run.theta, model.width), optimum };
});
