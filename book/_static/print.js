// Paper is white: a page in its dark mode is printed in the light one. What folds a cell's checks is open on it.
"use strict";

addEventListener("beforeprint", () => {
  const page = document.documentElement.dataset;
  const { theme } = page;
  page.theme = "light";
  const checks = document.querySelectorAll(".labelnoise-checks:not([open])");
  for (const one of checks) one.open = true;
  const goBack = () => {
    page.theme = theme;
    for (const one of checks) one.open = false;
  };
  addEventListener("afterprint", goBack, { once: true });
});
