// A formula is no stop of the tab key, unless it is wider than its place: then the arrows scroll it.
document.addEventListener("DOMContentLoaded", () => {
  const mark = () =>
    document.querySelectorAll('mjx-container[display="true"]').forEach((formula) => {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    });
  window.MathJax?.startup?.promise?.then(mark);
  window.addEventListener("resize", mark);
});
