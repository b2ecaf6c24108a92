// Sets up every figure on the page that is not yet: its inputs choose which of its pictures shows.
for (const root of document.querySelectorAll(".labelnoise-explore:not([data-ready])")) {
  const inputs = [...root.querySelectorAll("input, select")];
  const pictures = root.querySelectorAll("img");
  const status = root.querySelector("[role=status]");
  const pause = []; // one function for each Play button

  const show = () => {
    let chosen = 0;
    for (const input of inputs) {
      const texts = JSON.parse(input.dataset.texts ?? "null");
      chosen = chosen * (texts ?? input.options).length + Number(input.value);
      if (texts) {
        const text = texts[input.value];
        input.setAttribute("aria-valuetext", text);
        input.parentElement.nextElementSibling.textContent = text;
      }
    }
    pictures.forEach((picture, number) => (picture.hidden = number !== chosen));
    return pictures[chosen].alt;
  };

  for (const input of inputs) {
    input.addEventListener("input", () => {
      for (const one of pause) one();
      status.textContent = show();
    });
  }

  // From where the slider stands to its last value, or once more from the first; aloud only where it stops.
  for (const button of root.querySelectorAll("button")) {
    const input = button.previousElementSibling.previousElementSibling.querySelector("input");
    let timer = 0;
    const name = (verb) => {
      button.textContent = verb;
      button.setAttribute("aria-label", `${verb} ${button.dataset.label}`);
    };
    const stop = () => {
      if (!timer) return;
      timer = clearInterval(timer) ?? 0;
      name("Play");
      status.textContent = show();
    };
    pause.push(stop);
    button.addEventListener("click", () => {
      const goes = timer;
      for (const one of pause) one();
      if (goes) return;
      if (input.value === input.max) input.value = 0;
      else input.value = Number(input.value) + 1;
      show();
      name("Pause");
      timer = setInterval(() => {
        if (!root.isConnected || input.value === input.max) return stop();
        input.value = Number(input.value) + 1;
        show();
      }, 700);
    });
  }
  root.querySelector(".labelnoise-controls").hidden = false;
  root.dataset.ready = "";
  show();
}
