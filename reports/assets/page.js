// Click a column's title to sort by it; click again to turn the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const cell = (body) => body.rows[0].cells[column];
      const number = (body) => cell(body).dataset.value === "" ? -Infinity : +cell(body).dataset.value;
      const compare = head.classList.contains("words")
        ? (a, b) => cell(a).textContent.localeCompare(cell(b).textContent)
        : (a, b) => number(a) - number(b);
      const bodies = [...table.tBodies].sort((a, b) => (down ? compare(b, a) : compare(a, b)));
      bodies.forEach((body) => table.insertBefore(body, table.tFoot));
    });
  });
}
