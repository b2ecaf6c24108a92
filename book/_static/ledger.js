// The ledger's rows can be chosen by chapter and by verdict. Without this script all of them are shown.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".labelnoise-filter");
  if (!form) return;
  const rows = [...document.querySelectorAll(".labelnoise-ledger tbody tr")];
  const groups = [...document.querySelectorAll(".labelnoise-ledger")].map((table) => table.closest("section"));
  const choose = () => {
    const wanted = [...form.querySelectorAll("select")].map(({ value }) => value).filter(Boolean);
    for (const row of rows) row.hidden = !wanted.every((name) => row.classList.contains(name));
    for (const group of groups) group.hidden = !group.querySelector("tbody tr:not([hidden])");
    const claims = rows.filter((row) => row.classList.contains("first"));
    const shown = claims.filter((row) => !row.hidden).length;
    form.querySelector("output").value = `${shown} of ${claims.length} claims`;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", choose);
  form.hidden = false;
  choose();
});

// A link to a cell in a folded solution unfolds it.
const unfold = () => {
  const cell = location.hash.startsWith("#cell-") && document.getElementById(location.hash.slice(1));
  if (!cell) return;
  cell.closest(".toggle-hidden")?.querySelector(".toggle-button")?.click();
  cell.scrollIntoView();
};
addEventListener("load", unfold);
addEventListener("hashchange", unfold);
