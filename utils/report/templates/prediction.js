"use strict";
(() => {
const byId = (id) => document.getElementById(id);
const body = byId("table").tBodies[0];
const heads = Array.from(byId("table").tHead.rows[0].cells);
const rows = Array.from(body.rows);
const collator = new Intl.Collator("en", { numeric: true });

function filter() {
  const wanted = byId("decision").value;
  for (const row of rows) row.hidden = wanted !== "" && row.dataset.decision !== wanted;
  const shown = rows.filter((row) => !row.hidden).length;
  byId("count").textContent = `${shown} of ${rows.length} images`;
}

function compare(column, a, b) {
  const [x, y] = [a.cells[column], b.cells[column]];
  if (x.dataset.value !== undefined) return Number(x.dataset.value) - Number(y.dataset.value);
  return collator.compare(x.textContent, y.textContent);
}

heads.slice(0, 4).forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const isAscending = head.getAttribute("aria-sort") === "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
    const sign = isAscending ? 1 : -1;
    body.append(...rows.sort((a, b) => sign * compare(column, a, b)));
  });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("select, a, button")) return;
  const current = event.target.closest("tbody tr");
  if (event.key === "Enter" && current) {
    const link = current.querySelector("a");
    if (link) link.click();
    return;
  }
  const by = { j: 1, k: -1 }[event.key];
  if (!by) return;
  const shown = Array.from(body.rows).filter((row) => !row.hidden);
  const next = shown[current ? shown.indexOf(current) + by : 0];
  if (next) next.cells[0].focus();
  event.preventDefault();
});

byId("decision").addEventListener("change", filter);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("controls").hidden = false;
filter();
})();
