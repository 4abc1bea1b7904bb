// Filters the table of claims; the choice stands in the address, so that it can be linked.
// Jupyter Book loads it at the head of every page.
addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector("form.nt-explorer");
  if (!form) return;
  const rows = [...document.querySelectorAll("table.nt-claims tbody tr")];
  const fields = [...form.elements].filter((e) => e.name);
  const wanted = new URLSearchParams(location.search);
  for (const field of fields) field.value = wanted.get(field.name) ?? "";
  const fits = (row, { name, value }) => {
    if (!value) return true;
    if (name === "words") {
      const text = `${row.textContent} ${row.dataset.words}`.toLowerCase();
      return value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
    }
    return row.dataset[name].split("|").includes(value);
  };
  const show = () => {
    let count = 0;
    for (const row of rows) {
      row.hidden = !fields.every((field) => fits(row, field));
      count += !row.hidden;
    }
    const none = "No claim has all of this. Take back a filter or a word.";
    form.querySelector("output").textContent = count ? `${count} of ${rows.length} claims` : none;
    const set = new URLSearchParams(fields.filter((f) => f.value).map((f) => [f.name, f.value]));
    history.replaceState(null, "", `${set.size ? `?${set}` : location.pathname}${location.hash}`);
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
});
