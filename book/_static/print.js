// Paper is white: a page in its dark mode is printed in the light one.
"use strict";

addEventListener("beforeprint", () => {
  const page = document.documentElement.dataset;
  const { theme } = page;
  page.theme = "light";
  addEventListener("afterprint", () => (page.theme = theme), { once: true });
});
