// Sets up every figure on the page that is not yet: its inputs choose which of its pictures shows.
for (const root of document.querySelectorAll(".labelnoise-explore:not([data-ready])")) {
  const inputs = [...root.querySelectorAll("input, select")];
  const pictures = root.querySelectorAll("img");
  const status = root.querySelector("[role=status]");

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
    input.addEventListener("input", () => (status.textContent = show()));
  }
  root.querySelector(".labelnoise-controls").hidden = false;
  root.dataset.ready = "";
  show();
}
