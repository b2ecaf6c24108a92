// Sphinx quotes pages in its search results as plain text: formulas as raw LaTeX, folded code, names of buttons.
// Here a quotation has what the page shows at once, its sentences before its code, with typeset formulas.
"use strict";

const UNQUOTED = "details, .labelnoise-explore, .headerlink";
const FIRST_STAND_IN = 0xe000; // of 6400 characters for private use: each stands for a formula while the text is cut

const toText = Search.htmlToText;
Search.htmlToText = (...page) => toText(...page).replace(/\s+/g, " ");

const summarize = Search.makeSearchSummary;
Search.makeSearchSummary = (html, keywords, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const article = page.querySelector("article");
  page.querySelector("[role=main]").replaceChildren(article);
  article.querySelectorAll(UNQUOTED).forEach((element) => element.remove());
  article.append(...article.querySelectorAll(".cell"));
  const heading = anchor ? article.querySelector(`${anchor} > :is(h1, h2, h3, h4):has(.math)`)?.cloneNode(true) : null;
  article.querySelectorAll("div.math").forEach((formula) => formula.replaceWith(" … "));
  const formulas = [...article.querySelectorAll(".math")];
  formulas.forEach((formula, number) => formula.replaceWith(String.fromCharCode(FIRST_STAND_IN + number)));

  const summary = summarize(page.documentElement.outerHTML, keywords, anchor);
  if (!summary) return null;
  const parts = summary.textContent.split(/([\ue000-\uf8ff])/);
  summary.replaceChildren(...parts.map((part) => formulas[part.charCodeAt(0) - FIRST_STAND_IN] ?? part));
  // Then Sphinx has put the summary below its link, and marked the words searched for.
  MathJax.startup.promise = MathJax.startup.promise.then(() => {
    const result = summary.parentElement;
    const link = result.querySelector("a");
    if (heading) link.replaceChildren(`${link.textContent.split(" > ")[0]} > `, ...heading.childNodes);
    return MathJax.typesetPromise([result]);
  });
  return summary;
};
