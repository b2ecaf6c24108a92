// What the figure of network.js measures of a network besides loss and reg; the engine's files stand before this.
const PLACES = linspace(-1, 1, 2001); // at most a fifth of the 20001 of simplicity/lines.py, and still close beside a kink
const DRAWN = 5; // every fifth of them is drawn

serve(port, makeTwoLayerRelu, (model, run) => {
  const values = valuesAt(model, run.theta, PLACES);
  return {
    changes: convexityChanges(PLACES, values, 0.1),
    curve: Float32Array.from({ length: (PLACES.length - 1) / DRAWN + 1 }, (_, i) => values[DRAWN * i]),
  };
});
