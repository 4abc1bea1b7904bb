// Titles first; snippets begin with the text and not with the names of the page's buttons.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const plain = (text) => text.trim().toLowerCase().replaceAll("-", " ");
  const query = plain(new URLSearchParams(location.search).get("q") || "");
  // a title that holds the whole query comes before titles with one of its words
  Scorer.score = ([, title, , , score]) => score + (query && plain(title).includes(query) ? 50 : 0);
  const whole = Search.htmlToText;
  const aside = ".header-article, .bd-header-article, #jb-print-docs-body, .nt-controls, details.nt-fold, .prev-next-area, footer, mjx-container, button";
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    page.querySelectorAll(aside).forEach((node) => node.remove());
    return whole(page.documentElement.outerHTML, anchor);
  };
});
