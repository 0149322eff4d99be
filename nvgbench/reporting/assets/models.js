// Renames, hides, highlights and reorders models. The choices are kept in the page's address; nothing is sent or stored.
{
  const subjects = JSON.parse(document.getElementById("nvgbench-models").textContent);
  const main = document.querySelector("main");

  const read = () => {
    const query = new URLSearchParams(location.search);
    const known = (key) => query.getAll(key).filter((subject) => subjects.includes(subject));
    const names = new Map();
    for (const subject of subjects) {
      const name = query.get(`name:${subject}`);
      if (name) names.set(subject, name);
    }
    const order = [...new Set(known("order"))];
    return { hidden: new Set(known("hide")), marked: new Set(known("mark")), names, order };
  };
  const write = () => {
    const query = new URLSearchParams(location.search);
    for (const key of [...query.keys()]) if (/^(hide|mark|order)$|^name:/.test(key)) query.delete(key);
    for (const subject of state.hidden) query.append("hide", subject);
    for (const subject of state.marked) query.append("mark", subject);
    for (const [subject, name] of state.names) query.append(`name:${subject}`, name);
    for (const subject of state.order) query.append("order", subject);
    const text = query.toString();
    history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`);
  };
  let state = read();

  // Longer names first: one subject's name may contain another's.
  const escaped = [...subjects].sort((a, b) => b.length - a.length).map((one) => one.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\w-])(?:${escaped.join("|")})(?![\\w-])`, "g");
  const renamed = (text) => text.replace(pattern, (subject) => state.names.get(subject) ?? subject);
  const texts = [];
  const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.closest("script, style, #provenance") && node.nodeValue.match(pattern)) texts.push([node, node.nodeValue]);
  }
  const labels = [];
  for (const attribute of ["alt", "aria-label"]) {
    for (const element of main.querySelectorAll(`[${attribute}]`)) labels.push([element, attribute, element.getAttribute(attribute)]);
  }

  const owned = [...main.querySelectorAll("[data-model]")];
  // Rows that can change places, with the places they had.
  const bodies = [...main.querySelectorAll("tbody")]
    .map((body) => [body, [...body.rows], [...body.rows].filter((row) => row.dataset.model !== undefined)])
    .filter(([, , rows]) => rows.length > 1);
  const pairs = [...document.querySelectorAll("#table-differences th")].map((head) => [
    head,
    subjects.filter((subject) => head.textContent.split(" vs ").includes(subject)),
  ]);

  const rank = (subject) => {
    const place = state.order.indexOf(subject);
    return place < 0 ? state.order.length + subjects.indexOf(subject) : place;
  };
  const reorder = () => {
    for (const [body, all, rows] of bodies) {
      const sorted = state.order.length ? [...rows].sort((a, b) => rank(a.dataset.model) - rank(b.dataset.model)) : [...rows];
      body.append(...all.map((row) => (rows.includes(row) ? sorted.shift() : row)));
    }
    for (const figure of main.querySelectorAll("figure[data-model]")) {
      figure.style.order = state.order.length ? rank(figure.dataset.model) : "";
    }
  };
  const apply = () => {
    for (const [node, text] of texts) node.nodeValue = renamed(text);
    for (const [element, attribute, text] of labels) element.setAttribute(attribute, renamed(text));
    for (const element of owned) {
      element.classList.toggle("gone", state.hidden.has(element.dataset.model));
      element.classList.toggle("marked", state.marked.has(element.dataset.model));
    }
    document.body.classList.toggle("marking", state.marked.size > 0);
    for (const [head, members] of pairs) {
      const gone = members.length > 1 && members.some((subject) => state.hidden.has(subject));
      const cells = head.scope === "row" ? [head.parentElement] : [...head.closest("table").rows].map((row) => row.cells[head.cellIndex]);
      for (const cell of cells) if (cell) cell.classList.toggle("gone", gone);
    }
    document.dispatchEvent(new CustomEvent("models", { detail: state }));
  };

  const panel = document.createElement("details");
  panel.id = "models";
  panel.innerHTML =
    "<summary>Rename, hide, highlight, reorder models</summary><ol></ol>" +
    '<p class="note"><button type="button">Reset</button> Kept in the address of this page: share it or bookmark it. The data inside the page stay as they are.</p>';
  const list = panel.querySelector("ol");
  const changed = () => {
    write();
    apply();
  };
  const tick = (label, chosen, subject, inverted) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = chosen.has(subject) !== inverted;
    box.addEventListener("change", () => {
      if (box.checked !== inverted) chosen.add(subject);
      else chosen.delete(subject);
      changed();
    });
    const element = document.createElement("label");
    element.append(box, ` ${label}`);
    element.title = `${label} ${subject}`;
    return element;
  };
  const move = (subject, by) => {
    const order = [...subjects].sort((a, b) => rank(a) - rank(b));
    const place = order.indexOf(subject);
    order.splice(place, 1);
    order.splice(Math.max(0, place + by), 0, subject);
    state.order = order;
    reorder();
    changed();
    fill();
    list.querySelector(`[data-subject="${CSS.escape(subject)}"] button[data-by="${by}"]`).focus();
  };
  const fill = () => {
    list.replaceChildren(
      ...[...subjects].sort((a, b) => rank(a) - rank(b)).map((subject) => {
        const item = document.createElement("li");
        item.dataset.subject = subject;
        const name = document.createElement("input");
        name.value = state.names.get(subject) ?? subject;
        name.setAttribute("aria-label", `Name of ${subject}`);
        name.addEventListener("input", () => {
          if (name.value && name.value !== subject) state.names.set(subject, name.value);
          else state.names.delete(subject);
          changed();
        });
        const buttons = [["↑", -1, "up"], ["↓", 1, "down"]].map(([sign, by, way]) => {
          const button = document.createElement("button");
          button.type = "button";
          button.textContent = sign;
          button.dataset.by = by;
          button.setAttribute("aria-label", `Move ${subject} ${way}`);
          button.addEventListener("click", () => move(subject, by));
          return button;
        });
        item.append(name, tick("show", state.hidden, subject, true), tick("highlight", state.marked, subject, false), ...buttons);
        return item;
      }),
    );
  };
  panel.querySelector("p button").addEventListener("click", () => {
    state = { hidden: new Set(), marked: new Set(), names: new Map(), order: [] };
    reorder();
    changed();
    fill();
  });
  if (subjects.length > 1) {
    fill();
    document.querySelector("nav").after(panel);
    if (state.order.length) reorder();
    apply();
  }
}
