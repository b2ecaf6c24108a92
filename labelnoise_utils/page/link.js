// What was chosen, in the address, so that it can be sent, such as #motor?noise_11=0.9&circle=rotations. An address that does not
// begin with the figure's name is the page's own and is left alone. Nothing else has to stand before this.

// read() sets the inputs and says whether the address had anything for them; write() puts their values there.
function makeLink(name, inputs) {
  const begins = `#${name}?`;
  const offered = ({ dataset, options }) => (dataset.values ? JSON.parse(dataset.values).map(String) : [...options].map((one) => one.value));
  const at = (input) => (input.dataset.values ? Number(input.value) : input.selectedIndex);
  return {
    read() {
      if (!location.hash.startsWith(begins)) return false;
      const chosen = new URLSearchParams(location.hash.slice(begins.length));
      for (const input of inputs) {
        const found = offered(input).indexOf(chosen.get(input.name));
        if (found >= 0) input[input.dataset.values ? "value" : "selectedIndex"] = found;
      }
      return true;
    },
    write() {
      const chosen = new URLSearchParams(inputs.map((input) => [input.name, offered(input)[at(input)]]));
      try {
        history.replaceState(history.state, "", begins + chosen);
      } catch {
        // a figure inside a frame without an address of its own, as in some notebooks
      }
    },
  };
}
