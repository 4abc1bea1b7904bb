// Titles first; snippets begin with the text and not with the names of the page's buttons.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const plain = (text) => text.trim().toLowerCase().replaceAll("-", " ");
  const query = plain(new URLSearchParams(location.search).get("q") || "");
  // a title that holds the whole query comes before titles with one of its words; the page with
  // advice comes early, and those that list what stands elsewhere come late
  const weight = { what_to_do: 20, performance: -10, concordance: -10, explorer: -5, status: -10 };
  Scorer.score = ([page, title, , , score]) =>
    score + (query && plain(title).includes(query) ? 50 : 0) + (weight[page.split("/").pop()] ?? 0);
  stopwords.push("which", "what", "how", "when", "should", "do");
  const whole = Search.htmlToText;
  const aside = ".header-article, .bd-header-article, #jb-print-docs-body, .nt-controls, details.nt-fold, .prev-next-area, footer, mjx-container, .math, button";
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(aside).forEach((node) => node.remove());
    return whole(page.documentElement.outerHTML, anchor);
  };
  // a snippet begins and ends with a whole word
  const snippet = Search.makeSearchSummary;
  Search.makeSearchSummary = (...given) => {
    const node = snippet(...given);
    if (node) node.textContent = node.textContent.replace(/^\.\.\.\S*\s/, "… ").replace(/\s\S*\.\.\.$/, " …");
    return node;
  };
});
