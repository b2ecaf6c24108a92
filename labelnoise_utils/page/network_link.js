// What was chosen, in the address, so that it can be sent: #network?points=twelve&noise_std=0.5&lr=0&width=50&seed=0.
// An address that does not begin so is the page's own and is left alone.
const LINK = "#network?";

const rounded = (value) => Number(value.toFixed(3));

function writeLink({ preset, points, noiseIsOn, inputs }) {
  const chosen = new URLSearchParams();
  chosen.set("points", preset || points.map((point) => point.map(rounded).join("_")).join("*"));
  for (const { name, dataset, value } of inputs) chosen.set(name, JSON.parse(dataset.values)[value]);
  if (!noiseIsOn) chosen.set("noise", "off");
  try {
    history.replaceState(history.state, "", LINK + chosen);
  } catch {
    // a figure inside a frame without an address of its own, as in some notebooks
  }
}

// Sets the inputs and returns { preset, points, noiseIsOn }, or null where the address says nothing of this.
function readLink(presets, inputs, mostPoints) {
  if (!location.hash.startsWith(LINK)) return null;
  const chosen = new URLSearchParams(location.hash.slice(LINK.length));
  for (const input of inputs) {
    const at = JSON.parse(input.dataset.values).indexOf(Number(chosen.get(input.name) ?? NaN));
    if (at >= 0) input.value = at;
  }
  const named = chosen.get("points") || "";
  const own = named.split("*").map((pair) => pair.split("_").map(Number));
  const isGood = own.length >= 2 && own.length <= mostPoints && own.every((one) => one.length === 2 && one.every(Number.isFinite));
  const preset = named in presets ? named : isGood ? "" : Object.keys(presets)[0];
  return { preset, points: preset ? presets[preset] : own, noiseIsOn: chosen.get("noise") !== "off" };
}
