// A formula or a figure is no stop of the tab key, unless it is wider than its place: then the
// arrows scroll it.
document.addEventListener("DOMContentLoaded", () => {
  const wide = 'mjx-container[display="true"], .cell_output figure:not(.nt-frames), .cell_output .output:has(> img)';
  const mark = () =>
    document.querySelectorAll(wide).forEach((node) => {
      if (node.scrollWidth > node.clientWidth) node.tabIndex = 0;
      else node.removeAttribute("tabindex");
    });
  window.MathJax?.startup?.promise?.then(mark);
  window.addEventListener("load", mark);
  window.addEventListener("resize", mark);
});
