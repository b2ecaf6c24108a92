// All units at rest on two data points, with their prices under the reader's hand. solutions_law.js, pen.js and stage.js
// stand before this in the same function.
const MINIMUM = "#009E73";
const SADDLE = "#000000";
const SHADES = ["#ffffff", "#eef3f8", "#c3d9ea", "#8fb8d8", "#5c98c6"]; // by the number of solutions; more are as the last
const CELLS = 60;
const POINTS = 160;
const REACH = 3.4; // of w . x in the picture of the values

function makeSolutions(root) {
  const { most } = JSON.parse(root.dataset.settings);
  const controls = readControls(root);
  const [plane, values] = root.querySelectorAll("canvas");
  const readout = root.querySelector(".labelnoise-readout");
  const status = root.querySelector("[role=status]");
  let map; // { length, shades: one for each cell, a row of cells after the other }

  const state = () => {
    const { first, second, length } = controls.values();
    return { prices: [first, second], norms: [1, length] };
  };
  const solve = (prices, norms, points = POINTS) => unitsAtRest(prices, norms, points);

  // Prices from 0 to most to the right, and from -most / 2 to most / 2 upwards.
  const scale = (box) => {
    const unit = Math.min(box.right - box.left, box.bottom - box.top) / most;
    return {
      unit,
      x: (price) => box.left + unit * price,
      y: (price) => box.bottom - unit * (price + most / 2),
      first: (x) => (x - box.left) / unit,
      second: (y) => (box.bottom - y) / unit - most / 2,
    };
  };

  // The map is even in the second price: a row of cells and its mirror image at once, from the middle outwards.
  const startMap = (length) => {
    map = { length, shades: new Array(CELLS * CELLS).fill(null), next: 0 };
  };
  const fillMap = () => {
    const began = performance.now();
    while (map.next < (CELLS * CELLS) / 2 && performance.now() - began < BUDGET) {
      const [row, column] = [CELLS / 2 - 1 - Math.floor(map.next / CELLS), map.next % CELLS];
      const prices = [((column + 0.5) * most) / CELLS, ((row + 0.5) * most) / CELLS - most / 2];
      const units = solve(prices, [1, map.length], 40);
      const shade = units.some(({ index }) => index === 0) ? MINIMUM : SHADES[Math.min(units.length, SHADES.length - 1)];
      map.shades[row * CELLS + column] = map.shades[(CELLS - 1 - row) * CELLS + column] = shade;
      map.next += 1;
    }
    return map.next < (CELLS * CELLS) / 2;
  };

  const drawPlane = (surface) => {
    const { pen, box } = surface;
    const { unit, x, y } = scale(box);
    const size = (unit * most) / CELLS;
    map.shades.forEach((shade, k) => {
      if (!shade) return;
      pen.fillStyle = shade;
      const [left, top] = [x(((k % CELLS) * most) / CELLS), y(((Math.floor(k / CELLS) + 1) * most) / CELLS - most / 2)];
      pen.fillRect(left, top, size + 0.5, size + 0.5);
    });
    line(pen, [[x(0), y(0)], [x(most), y(0)]], { colour: GREY, dash: [3, 3] });
    const { prices: [first, second] } = state();
    ring(pen, x(first), y(second)); // open, so that the shade below it is seen
    dot(pen, x(first), y(second), "#0072B2", 3);
    const right = x(most);
    const short = { ...surface, box: { ...box, right, top: y(most / 2) } };
    axes(short, [0, 0.25, 0.5, 0.75, 1].map((p) => [x(p), `${p}`]), [-0.5, -0.25, 0, 0.25, 0.5].map((p) => [y(p), `${p}`]), "price μ₁", "price μ₂");
    const shades = [["1", SHADES[1]], ["2", SHADES[2]], ["4 solutions", SHADES[4]], ["minimum", MINIMUM]];
    legend(pen, shades.map(([words, shade]) => [words, swatch(pen, shade)]), box.left - 44, 12);
  };

  const drawValues = (surface, units) => {
    const { pen, box } = surface;
    const square = (px, py) => {
      pen.fillStyle = MINIMUM;
      pen.fillRect(px - 6, py - 6, 12, 12);
    };
    // By w . x = atanh h, since the values of most solutions are close to 1 or -1.
    const place = (h) => Math.max(-20, Math.min(20, Math.atanh(h))) / REACH;
    const x = (h) => (box.left + box.right) / 2 + ((box.right - box.left) / 2 - 8) * place(h);
    const y = (h) => (box.top + box.bottom) / 2 - ((box.bottom - box.top) / 2 - 8) * place(h);
    const { prices, norms } = state();
    const signs = prices.map((price) => (price < 0 ? -1 : 1));
    const mu = prices.map(Math.abs);
    line(pen, [[box.left, y(0)], [box.right, y(0)]], { colour: "#ddd" });
    line(pen, [[x(0), box.top], [x(0), box.bottom]], { colour: "#ddd" });
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.clip();
    for (const branch of branchesFor(mu, norms)) {
      const way = Array.from({ length: 121 }, (_, i) => unitOn(branch, Math.max(branch.start ? 0 : 1e-3, i / 120), mu, norms).h);
      line(pen, way.map(([a, b]) => [x(signs[0] * a), y(signs[1] * b)]), { colour: "#9a9a9a" });
    }
    // Each c in a column beside the marks, with a line to its mark.
    const order = [...units].sort((a, b) => b.h[1] - a.h[1] || b.c - a.c);
    const side = units.reduce((sum, { h }) => sum + h[0], 0) < 0 ? 1 : -1;
    const column = (box.left + box.right) / 2 + (side * (box.right - box.left)) / 5;
    order.forEach(({ c, h }, k) => {
      const row = (box.top + box.bottom) / 2 + 20 * (k - (units.length - 1) / 2);
      line(pen, [[column - 6 * side, row], [x(h[0]), y(h[1])]], { colour: "#0072B2", width: 0.7 });
      text(pen, `c = ${c.toFixed(2)}`, column, row, { align: side < 0 ? "right" : "left", ground: true });
    });
    pen.restore();
    for (const { h, index } of units) {
      const [px, py] = [x(h[0]), y(h[1])];
      if (index === 0) square(px, py);
      else if (index === 1) dot(pen, px, py, SADDLE, 5);
      else ring(pen, px, py);
    }
    const ticks = [-0.99, -0.9, -0.5, 0, 0.5, 0.9, 0.99];
    axes(surface, ticks.map((h) => [x(h), `${h}`]), ticks.map((h) => [y(h), `${h}`]), "value h₁", "value h₂");
    legend(pen, [["saddle of Γ", (px, py) => dot(pen, px, py, SADDLE, 5)], ["minimum", square]], box.left - 40, 12);
  };

  const words = (units) => {
    const { prices: [first, second], norms } = state();
    const minima = units.filter(({ index }) => index === 0).length;
    const at = `At prices ${inWords(first)} and ${inWords(second)}, with |x₂|² = ${inWords(norms[1])}`;
    if (!units.length) return `${at}, more output always pays: no unit is at rest but the silent one.`;
    const number = units.length === 1 ? "one unit is at rest" : `${units.length} units are at rest`;
    const classes = units.length === 1 ? "all active units of a network are alike" : `a network can have up to ${units.length} classes of active units`;
    const kind = minima ? `${minima === 1 ? "One is a minimum" : `${minima} are minima`} of Γ: there may be any number of such units.`
      : "None is a minimum of Γ: at a minimum of reg there are at most two such units.";
    return `${at}, ${number}: ${classes}. ${kind}`;
  };

  const draw = () => {
    const { prices, norms } = state();
    const units = solve(prices, norms);
    const [left, right] = [clear(plane, 28), clear(values, 28)];
    if (left) drawPlane(left);
    if (right) drawValues(right, units);
    readout.textContent = words(units);
    const places = units.map(({ c, h, index }) => `c = ${inWords(c)}, h = (${h.map(inWords).join(", ")}), index ${index}`);
    plane.setAttribute("aria-label", `Plane of the two prices, shaded by the number of solutions; the point at ${prices.map(inWords).join(", ")} can be dragged.`);
    values.setAttribute("aria-label", `Plane of the values h₁ and h₂ with ${units.length} solutions: ${places.join("; ") || "none"}.`);
    return units;
  };
  const wake = whileSeen(root, () => {
    const isUnfinished = fillMap();
    const surface = clear(plane, 28);
    if (surface) drawPlane(surface);
    return isUnfinished;
  });
  const changed = (aloud) => {
    controls.show();
    if (map.length !== controls.values().length) startMap(controls.values().length);
    draw();
    if (aloud) status.textContent = readout.textContent;
    wake();
  };

  makeDraggable(plane, (px, py) => {
    const { x, y } = scale(makeBox(plane.clientWidth, plane.clientHeight, 28));
    const { prices: [first, second] } = state();
    return Math.hypot(px - x(first), py - y(second)) < 24;
  }, (px, py) => {
    const { first, second } = scale(makeBox(plane.clientWidth, plane.clientHeight, 28));
    controls.set("first", first(px));
    controls.set("second", second(py));
    changed(false);
  });
  for (const input of controls.inputs) input.addEventListener("input", () => changed(true));

  // For a test: the solutions at the controls' prices, or at others.
  root.solutions = (prices, norms) => solve(prices || state().prices, norms || state().norms);

  reveal(root);
  startMap(controls.values().length);
  draw();
  new ResizeObserver(draw).observe(root);
}

setUpAll("solutions", makeSolutions);
