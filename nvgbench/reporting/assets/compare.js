// Two models image by image, with a slider between them. Without scripts every image is shown class by class.
for (const source of document.querySelectorAll("#nvgbench-side-by-side")) {
  const { rows, columns, scores, models, first: pair } = JSON.parse(source.textContent);
  const section = document.getElementById("side-by-side");
  const query = new URLSearchParams(location.search);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const field = (label, control) => element("label", {}, `${label} `, control);
  const choice = (key, options, fallback) => {
    const select = element("select", { name: key }, ...options.map(([value, text]) => element("option", { value }, text)));
    const asked = query.get(key);
    select.value = options.some(([value]) => value === asked) ? asked : fallback;
    select.addEventListener("change", () => {
      const now = new URLSearchParams(location.search);
      if (select.value === fallback) now.delete(key);
      else now.set(key, select.value);
      const text = now.toString();
      history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
      draw();
    });
    return select;
  };

  const names = models.map(({ subject }) => [subject, subject]);
  const first = choice("a", names, models[pair[0]].subject);
  const second = choice("b", names, models[pair[1]].subject);
  const only = choice("class", [["", "all"], ...rows.map((row) => [row, row])], "");
  const orders = Object.entries(scores).flatMap(([key, text]) => [[`${key}:low`, `lowest ${text}`], [`${key}:high`, `highest ${text}`]]);
  const order = choice("first", [["", "as drawn"], ...orders], "");
  const cut = element("input", { type: "range", min: 0, max: 100, value: 50 });
  cut.setAttribute("aria-label", "How much of the left model is seen");
  const cards = element("div", { className: "cards", tabIndex: 0 });
  cards.setAttribute("role", "region");
  cards.setAttribute("aria-label", "Images of both models");
  const status = element("p", { className: "note" });
  status.setAttribute("role", "status");
  cut.addEventListener("input", () => {
    cards.style.setProperty("--cut", `${cut.value}%`);
    for (const stack of cards.querySelectorAll(".stack")) stack.style.removeProperty("--cut");
  });
  const controls = element(
    "div", { className: "controls" },
    field("left", first), field("right", second), field("class", only), ...(orders.length ? [field("first", order)] : []), field("slider", cut),
  );

  const tile = (kind, model, row, column) => {
    const made = element("div", { className: `tile ${kind}-${model}` });
    made.style.setProperty("--row", row);
    made.style.setProperty("--column", column);
    return made;
  };
  const value = (model, key, row, column) => models[model].scores[key]?.[row * columns + column] ?? null;
  const digits = (number) => (number === null ? "–" : Number(number.toPrecision(2)).toString());
  // Of the table of settings, the two models' columns, and the rows in which they differ.
  const table = document.getElementById("table-configurations");
  const settings = (a, b) => {
    for (const row of table ? table.rows : []) {
      [...row.cells].forEach((cell, column) => cell.classList.toggle("gone", column > 0 && column !== a + 1 && column !== b + 1));
      if (row.parentElement !== table.tHead) row.classList.toggle("gone", row.cells[a + 1].textContent === row.cells[b + 1].textContent);
    }
  };
  const draw = () => {
    const [a, b] = [first, second].map((select) => models.findIndex(({ subject }) => subject === select.value));
    let places = rows.flatMap((label, row) => (only.value && only.value !== label ? [] : Array.from({ length: columns }, (_, column) => [row, column])));
    if (order.value) {
      const [key, way] = order.value.split(":");
      // By the left model's score, or the right one's if the left has none.
      const by = models[a].scores[key] ? a : b;
      const known = places.filter(([row, column]) => value(by, key, row, column) !== null);
      places = known.sort((x, y) => (value(by, key, ...x) - value(by, key, ...y)) * (way === "low" ? 1 : -1));
    }
    status.textContent = `${places.length} images.`;
    settings(a, b);
    cards.replaceChildren(
      ...places.map(([row, column]) => {
        const above = tile("sheet", a, row, column);
        above.classList.add("above");
        const stack = element("div", { className: "stack" }, tile("sheet", b, row, column), above);
        stack.addEventListener("pointermove", (event) => {
          const box = stack.getBoundingClientRect();
          stack.style.setProperty("--cut", `${(100 * (event.clientX - box.left)) / box.width}%`);
        });
        const maps = [a, b].filter((model) => models[model].structure).map((model) => tile("structure", model, row, column));
        const numbers = Object.keys(scores).map((key) => element("small", {}, `${key} ${digits(value(a, key, row, column))} | ${digits(value(b, key, row, column))}`));
        const card = element("figure", { className: "card" }, stack, element("div", { className: "maps" }, ...maps), element("figcaption", {}, `${rows[row]} ${column + 1}`, ...numbers));
        stack.setAttribute("role", "img");
        stack.setAttribute("aria-label", `${rows[row]}, image ${column + 1}: ${models[a].subject} left of the slider, ${models[b].subject} right of it`);
        return card;
      }),
    );
  };
  draw();
  document.getElementById("every-image").open = false;
  document.getElementById("every-image").before(controls, status, cards);
}
