// Data points that lie over a picture as buttons, so that each can have the focus: a hand drags them, keys move them.
//
// The figure has count(), place(number) in pixels, name(number), select(number), drag(number, event), nudge(number, way), way
// in units of a short step, and remove(number); key(number, event), where there is one, says whether it took another key.
function makeDots(box, { count, place, name, select, drag, nudge, remove, key = () => false, dress = () => {} }) {
  const numberOf = (dot) => [...box.children].indexOf(dot);
  const make = () => {
    const dot = document.createElement("button");
    dot.type = "button";
    dot.addEventListener("pointerdown", (event) => {
      select(numberOf(dot));
      dot.setPointerCapture(event.pointerId);
    });
    dot.addEventListener("pointermove", (event) => {
      if (dot.hasPointerCapture(event.pointerId) && event.buttons) drag(numberOf(dot), event);
    });
    dot.addEventListener("focus", () => select(numberOf(dot)));
    dot.addEventListener("keydown", (event) => {
      const number = numberOf(dot);
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const isRemoval = event.key === "Delete" || event.key === "Backspace";
      if (way) nudge(number, way.map((part) => (event.shiftKey ? 5 : 1) * part));
      if (isRemoval) remove(number);
      if (way || isRemoval || key(number, event)) event.preventDefault();
    });
    return dot;
  };
  const show = () => {
    while (box.children.length > count()) box.lastElementChild.remove();
    while (box.children.length < count()) box.append(make());
    [...box.children].forEach((dot, number) => {
      const [left, top] = place(number);
      dot.style.left = `${left}px`;
      dot.style.top = `${top}px`;
      dot.setAttribute("aria-label", name(number));
      dress(dot, number);
    });
  };
  return { show, focus: (number) => box.children[number].focus() };
}
