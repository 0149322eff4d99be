// Copies a table as it is shown (names, order, hidden rows) as Markdown, LaTeX or CSV.
{
  const shown = (element) => !element.classList.contains("gone");
  const clean = (text) => text.replace(/\u200b/g, "").replace(/\u202f/g, " ").replace(/\s+/g, " ").trim();
  const parts = (cell) => {
    const small = cell.querySelector("small");
    const rest = cell.cloneNode(true);
    for (const element of rest.querySelectorAll("small, sup, .unseen")) element.remove();
    return { text: clean(rest.textContent), sub: small ? clean(small.textContent) : "", best: cell.classList.contains("best"), value: cell.dataset.sort };
  };
  const grid = (table) => {
    const head = [...table.tHead.rows[0].cells].filter(shown).map(parts);
    const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => shown(row) && !row.classList.contains("group"));
    return { caption: clean(table.caption.textContent), head, rows: rows.map((row) => [...row.cells].filter(shown).map(parts)) };
  };

  const markdown = ({ caption, head, rows }) => {
    const escape = (text) => text.replace(/\|/g, "\\|");
    const cell = ({ text, sub, best }) => escape(`${best ? `**${text}**` : text}${sub ? ` ${sub}` : ""}`);
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const rule = head.map((_, column) => (column ? "---:" : "---"));
    return [`${caption}`, "", line(head.map((one) => cell({ ...one, best: false }))), line(rule), ...rows.map((row) => line(row.map(cell)))].join("\n");
  };
  const latex = ({ caption, head, rows }) => {
    const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "−": "$-$", "∞": "$\\infty$", "–": "--", "µ": "$\\mu$" };
    const escape = (text) => text.replace(/[&%$#_{}]/g, "\\$&").replace(/\\(?![&%$#_{}])|[~^−∞–µ]/g, (sign) => special[sign]);
    const cell = ({ text, sub, best }) => `${best ? `\\textbf{${escape(text)}}` : escape(text)}${sub ? ` {\\small ${escape(sub)}}` : ""}`;
    const line = (cells) => `${cells.map(cell).join(" & ")} \\\\`;
    const columns = head.map((_, column) => (column ? "r" : "l")).join("");
    return [
      "\\begin{table}", "\\centering", `\\caption{${escape(caption)}}`, `\\begin{tabular}{${columns}}`, "\\toprule",
      line(head.map((one) => ({ ...one, sub: "", best: false }))), "\\midrule", ...rows.map(line), "\\bottomrule", "\\end{tabular}", "\\end{table}",
    ].join("\n");
  };
  const csv = ({ head, rows }) => {
    // Numbers in full precision; what stands below them, such as an interval, has a column of its own.
    const below = head.map((_, column) => rows.some((row) => row[column] && row[column].sub));
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const line = (cells, value, sub) => cells.flatMap((one, column) => [value(one), ...(below[column] ? [sub(one)] : [])]).map(quote).join(",");
    return [
      line(head, (one) => one.text, (one) => `${one.text}: below`),
      ...rows.map((row) => line(row, (one) => one.value ?? one.text, (one) => one.sub)),
    ].join("\n");
  };

  const put = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages opened from a file have no clipboard in some browsers.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  for (const table of document.querySelectorAll("main table")) {
    if (!table.tBodies.length) continue;
    const bar = document.createElement("p");
    bar.className = "copy";
    bar.append("Copy as");
    for (const [label, format] of [["Markdown", markdown], ["LaTeX", latex], ["CSV", csv]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.setAttribute("aria-label", `Copy “${clean(table.caption.textContent)}” as ${label}`);
      button.addEventListener("click", async () => {
        const text = format(grid(table));
        button.dataset.copied = text;
        await put(text);
        button.textContent = "copied";
        setTimeout(() => (button.textContent = label), 1500);
      });
      bar.append(button);
    }
    table.closest(".scroll").after(bar);
  }
}
