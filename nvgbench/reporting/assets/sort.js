// Sorts a table by a click on a column's head: up, down, then as it was. Without scripts the tables are complete, in that order.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  if (table.querySelectorAll("tbody tr:not(.group)").length < 3) continue;
  const original = new Map([...table.rows].map((row, place) => [row, place]));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const descending = before === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (before !== "descending") head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        const key = (row) => {
          const cell = row.cells[column];
          const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
          const plain = text.replace(/,/g, "");
          const number = cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : plain === "" ? NaN : Number(plain);
          return Number.isNaN(number) ? text : number;
        };
        const keys = new Map(rows.map((row) => [row, key(row)]));
        rows.sort((a, b) => {
          if (before === "descending") return original.get(a) - original.get(b);
          const [x, y] = [keys.get(a), keys.get(b)];
          if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // missing values stay last
          const order = typeof x === "number" ? x - y : x.localeCompare(y);
          return descending ? -order : order;
        });
        body.append(...rows);
      }
    });
  });
}
