/* The report's behaviour. Without it the page shows every table, one below the other.

   The address holds the whole state: #page?profile=...&dataset=...&task=...&model=...&metric=...&sort=...
   section.page[data-filters]     the filters that concern a page
   [data-task|dataset|profile]    shown when equal to the filter, or when the filter is empty
   [data-model]                   shown when the key, the row's heading or a name elsewhere (data-also of its card) matches the filter
   [data-search]                  shown when the attribute matches the search
   form.choices select            chooses among the .panel elements by their data-metric, data-classifier, data-subset, data-split
   [data-cells], [data-mistakes]  JSON of pictures of embeddings and of confused labels, drawn when they are shown
   table.sortable th[data-key]    sorts; data-first="desc" puts the highest value first
   table.choosable                its columns can be hidden (hide=KEY,KEY); td[data-scaled] has a second text, for scale=controls
   .answer [data-row]             faded when it does not match the model filter
   .panel table, svg.dots|scatter|ranks   can be downloaded: the numbers are those of the page */
"use strict";
(() => {
  const pages = [...document.querySelectorAll("main > section.page")];
  const filters = document.getElementById("filters");
  const status = document.getElementById("status");
  const CHOICES = ["profile", "split", "metric", "classifier", "subset"];
  /* What models are called elsewhere. */
  const ALSO = Object.fromEntries([...document.querySelectorAll(".card[data-also]")].map((card) => [card.dataset.model, card.dataset.also]));
  let state = new URLSearchParams();
  let current = null;

  // --- the address ---

  function read() {
    const [id, query = ""] = location.hash.slice(1).split("?");
    const target = id && document.getElementById(id);
    const page = target && target.closest("section.page");
    if (current && !page) return;
    current = page || pages[0];
    state = new URLSearchParams(query);
  }

  function remember(key, value) {
    if (value) state.set(key, value);
    else state.delete(key);
    const query = state.toString();
    history.replaceState(null, "", "#" + current.id + (query ? "?" + query : ""));
    show();
  }

  // --- what is shown ---

  function show() {
    for (const page of pages) page.hidden = page !== current;
    const query = state.toString();
    for (const link of document.querySelectorAll("nav a")) {
      const id = link.dataset.page;
      link.href = "#" + id + (query ? "?" + query : "");
      if (id === current.id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = current.querySelector("h2").firstChild.textContent.trim() + " – cellgauge report";
    const concerned = current.dataset.filters.split(" ");
    for (const label of filters.querySelectorAll("[data-filter]")) label.hidden = !concerned.includes(label.dataset.filter);
    filters.hidden = !current.dataset.filters;
    const hide = (state.get("hide") ?? "").split(",");
    for (const box of document.querySelectorAll(".columns input")) box.checked = !hide.includes(box.value);
    for (const control of filters.elements) {
      if (!control.name) continue;
      control.value = state.get(control.name) ?? initial(control);
      if (control.selectedIndex < 0) control.value = initial(control);
    }
    scale(current, concerned.includes("scale") && state.get("scale") === "controls");
    const chosen = choose(current, concerned);
    for (const table of current.querySelectorAll("table.sortable")) sort(table);
    filter(current, concerned, chosen);
  }

  const initial = (control) => (control.name === "profile" ? control.options[0].value : "");

  /* Show values as measured, or their places between the controls. */
  function scale(page, on) {
    document.documentElement.classList.toggle("between", on);
    for (const cell of page.querySelectorAll("td[data-scaled]")) {
      cell.raw ??= cell.firstChild.data;
      cell.firstChild.data = on ? cell.dataset.scaled : cell.raw;
    }
  }

  /* Resolve the choices one after the other: each offers what the earlier ones leave, the first of it by default. */
  function choose(page, concerned) {
    const chosen = {};
    const dataset = concerned.includes("dataset") && state.get("dataset");
    let panels = [...page.querySelectorAll(".panel")].filter((panel) => !dataset || [undefined, dataset].includes(panel.dataset.dataset));
    for (const key of CHOICES) {
      if (key === "profile" && !concerned.includes(key)) continue;
      const control = page.querySelector(`.choices select[name="${key}"]`);
      const there = new Set(panels.map((panel) => panel.dataset[key]).filter((value) => value !== undefined));
      if (control) control.closest("label").hidden = there.size < 2;
      if (!there.size) continue;
      const order = control || (key === "profile" && filters.elements.profile);
      const offered = order ? [...order.options].map((o) => o.value).filter((v) => there.has(v)) : [...there];
      const wanted = state.get(key);
      chosen[key] = offered.includes(wanted) ? wanted : offered[0];
      if (control) {
        for (const option of control.options) option.disabled = option.hidden = !there.has(option.value);
        control.value = chosen[key];
      }
      panels = panels.filter((panel) => panel.dataset[key] === undefined || panel.dataset[key] === chosen[key]);
    }
    const form = page.querySelector(".choices");
    if (form) form.hidden = ![...form.querySelectorAll("label")].some((label) => !label.hidden);
    return chosen;
  }

  function filter(page, concerned, chosen) {
    const text = (key) => (concerned.includes(key) && state.get(key)) || "";
    const [words, search] = [text("model"), text("search")];
    let left = 0;
    const fits = (element) =>
      CHOICES.every((key) => element.dataset[key] === undefined || chosen[key] === undefined || element.dataset[key] === chosen[key]) &&
      ["dataset", "task"].every((key) => {
        const wanted = concerned.includes(key) && state.get(key);
        return !wanted || element.dataset[key] === undefined || element.dataset[key] === wanted;
      }) &&
      (element.dataset.model === undefined || matches(words, named(element))) &&
      (element.dataset.search === undefined || matches(search, element.dataset.search, { prose: true }));
    for (const element of page.querySelectorAll("[data-task],[data-dataset],[data-profile],[data-metric],[data-model],[data-search]"))
      if (element.tagName !== "TH") element.hidden = !fits(element);
    for (const group of page.querySelectorAll(".group")) {
      group.hidden ||= ![...group.querySelectorAll("[data-search]")].some((element) => !element.hidden);
      left += !group.hidden;
    }
    for (const table of page.querySelectorAll("table.heat")) columns(table, fits);
    for (const panel of page.querySelectorAll(".split")) if (!panel.hidden) draw(panel, (name, title) => matches(words, `${name} ${title} ${ALSO[name] || ""}`));
    for (const row of page.querySelectorAll(".answer [data-row]")) row.classList.toggle("faded", !matches(words, `${row.dataset.row} ${ALSO[row.dataset.row.split(" ")[0]] || ""}`));
    for (const panel of page.querySelectorAll(".panel")) {
      if (panel.matches(".answer")) panel.hidden ||= !panel.querySelector("[data-row]:not(.faded)");
      if (panel.matches(".split, .answer")) {
        left += !panel.hidden;
        continue;
      }
      const rows = [...panel.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
      if (!rows.length || (panel.querySelector("thead th[data-task]") && !panel.querySelector("thead th[data-task]:not([hidden])"))) panel.hidden = true;
      if (!panel.hidden) left += 1;
    }
    for (const part of page.querySelectorAll(".part")) part.hidden ||= !part.querySelector(".answer:not([hidden])");
    for (const card of page.querySelectorAll(".card")) left += !card.hidden;
    const empty = page.querySelector(".nothing");
    empty.hidden = left > 0 || !page.querySelector(".panel, .card, .group");
    status.textContent = empty.hidden ? `${left} tables shown` : empty.textContent;
  }

  function named(element) {
    const heading = element.querySelector("th, h4") || element;
    return `${element.dataset.model} ${heading.textContent} ${ALSO[element.dataset.model] || ""}`;
  }

  /* Whether a text has all words of a query, whatever the case and punctuation of either; in `prose` words begin as the query's. */
  const plain = (text) => ` ${text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim()} `;
  function matches(query, text, { prose = false } = {}) {
    const among = plain(text);
    return plain(query).trim().split(" ").every((word) => among.includes(prose && word ? ` ${word}` : word));
  }

  /* Hide the columns of other tasks and models, and those that the reader hides. The last row of the head has one heading per column. */
  function columns(table, fits) {
    const choosable = table.matches(".choosable");
    const hide = new Set(choosable ? (state.get("hide") ?? "").split(",") : []);
    const headings = [...[...table.tHead.rows].at(-1).cells];
    headings.forEach((heading, at) => {
      if (!choosable && heading.dataset.task === undefined && heading.dataset.model === undefined) return;
      heading.hidden = !fits(heading) || hide.has(heading.dataset.key);
      for (const row of table.tBodies[0].rows) row.cells[at].hidden = heading.hidden;
    });
    let at = 1;
    for (const group of table.querySelectorAll("th[scope=colgroup]")) {
      group.n ??= group.colSpan;
      const left = headings.slice(at, (at += group.n)).filter((heading) => !heading.hidden).length;
      group.hidden = !left;
      group.colSpan = left || 1;
    }
  }

  /* One box for each column of the tables of a page. */
  for (const first of document.querySelectorAll("section.page")) {
    const tables = [...first.querySelectorAll("table.choosable")];
    if (!tables.length) continue;
    const names = new Map();
    for (const heading of tables.flatMap((table) => [...table.tHead.querySelectorAll("th[data-key]")]))
      if (heading.dataset.key !== "model") names.set(heading.dataset.key, heading.firstChild.textContent.trim());
    const boxes = [...names].map(([value, name]) => make("label", {}, make("input", { type: "checkbox", name: "column", value }), name));
    const form = make("form", {}, ...boxes);
    form.setAttribute("aria-label", "Columns");
    form.addEventListener("change", () => remember("hide", boxes.map((box) => box.firstChild).filter((box) => !box.checked).map((box) => box.value).join(",")));
    tables[0].closest(".panel").before(make("details", { className: "columns" }, make("summary", {}, "Columns"), form));
  }

  /* The note of a cell is its title too. */
  for (const mark of document.querySelectorAll(".heat sup")) {
    const note = mark.closest(".panel").querySelector(`.notes [data-mark="${mark.textContent}"]`);
    if (note) mark.closest("td, th").title = note.textContent.slice(mark.textContent.length).trim();
  }

  // --- sorting ---

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tBodies[0].rows].forEach((row, place) => (row.place = place));
    for (const heading of table.querySelectorAll("th[data-key]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const key = heading.dataset.key;
        const first = heading.dataset.first === "desc" ? "-" : "";
        const turned = first ? "" : "-";
        const now = state.get("sort");
        const next = now === first + key ? turned + key : now === turned + key ? "" : first + key;
        remember("sort", next);
        heading.querySelector("button").focus();
        const order = { ascending: "ascending", descending: "descending" }[heading.getAttribute("aria-sort")];
        status.textContent = order ? `Sorted by ${button.textContent.trim()}, ${order}` : "In the original order";
      });
    }
  }

  function sort(table) {
    const wanted = state.get("sort") || "";
    const down = wanted.startsWith("-");
    const key = down ? wanted.slice(1) : wanted;
    let at = -1;
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((heading, place) => {
      heading.removeAttribute("aria-sort");
      if (key && heading.dataset.key === key) {
        at = place;
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      }
    });
    const body = table.tBodies[0];
    const bound = (row) => at >= 0 && row.matches(".control"); // controls bracket the others: they stay at the end
    const rows = [...body.rows].sort((a, b) => bound(a) - bound(b) || (at < 0 ? 0 : compare(a.cells[at], b.cells[at], down)) || a.place - b.place);
    if (rows.some((row, place) => row !== body.rows[place])) body.append(...rows);
  }

  /* Numbers by size, text by alphabet; what is missing comes last either way. */
  function compare(a, b, down) {
    const [x, y] = [value(a), value(b)];
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
    const difference = typeof x === "number" ? x - y : x.localeCompare(y);
    return down ? -difference : difference;
  }

  function value(cell) {
    const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
    const number = Number(text.replace(/,/g, "").replace(/−/g, "-"));
    return text !== "" && Number.isFinite(number) ? number : text;
  }

  // --- downloads ---

  /* What a row of a table says: one text per cell, what stands small (rank, interval, coverage) in further ones where some row has it. */
  const SMALL = ["rank", "coverage", "interval"];
  function grid(table) {
    const text = (node) => (node?.innerText ?? node?.textContent ?? "").replace(/\s+/g, " ").trim();
    const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
    const columns = [...[...table.tHead.rows].at(-1).cells].map((head, at) => [head, at]).filter(([head]) => !head.hidden && !head.matches(".picture"));
    const parts = columns.flatMap(([head, at]) => [[head, at, ""], ...SMALL.filter((kind) => rows.some((row) => row.cells[at].querySelector(`small.${kind}`))).map((kind) => [head, at, kind])]);
    const plain = (cell, kind) => (kind ? text(cell.querySelector(`small.${kind}`)).replace("rank ", "") : text(without(cell, "small:not(.kind), sup, .sr")));
    return [parts.map(([head, , kind]) => [text(without(head, "sup")), kind].filter(Boolean).join(" ")), ...rows.map((row) => parts.map(([, at, kind]) => plain(row.cells[at], kind)))];
  }

  function without(element, selector) {
    const copy = element.cloneNode(true);
    for (const part of copy.querySelectorAll(selector)) part.remove();
    return copy;
  }

  /* A text that a spreadsheet would take for a formula begins with an apostrophe. */
  const cell = (text) => {
    const plain = text.replace(/^\u2212(?=[\d.])/, "-").replace(/^(-?\d+),(?=\d{3}\b)/, "$1");
    const safe = /^[=+@\t\r-]/.test(plain) && !Number.isFinite(Number(plain)) ? "'" + plain : plain;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (rows) => rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
  function markdown([head, ...rows]) {
    const line = (cells) => `| ${cells.map((text) => text.replace(/[\\|*_`<>[\]#]/g, "\\$&")).join(" | ")} |\n`;
    return line(head) + line(head.map(() => "---")).replaceAll("\\", "") + rows.map(line).join("");
  }

  /* The picture with the page's style in it, so that it looks the same elsewhere. */
  function drawing(svg) {
    const copy = svg.cloneNode(true);
    const whole = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((element, at) => {
      const style = getComputedStyle(whole[at]);
      if (style.display === "none") return element.classList.add("gone");
      for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-opacity", "opacity", "font-size", "font-weight", "font-family", "text-anchor"])
        element.setAttribute(name, style.getPropertyValue(name));
      element.removeAttribute("href");
    });
    for (const element of copy.querySelectorAll(".gone")) element.remove();
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    return new XMLSerializer().serializeToString(copy);
  }

  function save(name, text, type) {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function offer(after, name, ...kinds) {
    const file = name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 80);
    const buttons = kinds.map(([title, kind, type, text]) => make("button", { type: "button", onclick: () => save(`${file}.${kind}`, text(), type) }, title));
    buttons.forEach((button) => button.setAttribute("aria-label", `${button.textContent} of ${name}`));
    (after.closest(".beside") ?? after).after(make("p", { className: "downloads" }, "Download ", ...buttons));
  }
  for (const table of document.querySelectorAll("figure table"))
    offer(table.parentElement, table.caption.textContent.trim(), ["CSV", "csv", "text/csv", () => csv(grid(table))], ["Markdown", "md", "text/markdown", () => markdown(grid(table))]);
  for (const svg of document.querySelectorAll("svg.dots, svg.scatter, svg.ranks")) {
    const holder = svg.closest(".answer")?.lastElementChild ?? svg.closest(".scroll") ?? svg;
    offer(holder, svg.getAttribute("aria-label").slice(0, 60), ["SVG", "svg", "image/svg+xml", () => drawing(svg)]);
  }

  // --- pictures of embeddings, and the confusion matrix ---

  /* Colors that eyes tell apart, in three shapes; the rest share one more. */
  const COLORS = document.getElementById("main").dataset.colors.split(" ");
  const SHAPES = ["disc", "square", "cross"];
  const OTHERS = "#8a8f98";
  const MANY = COLORS.length * SHAPES.length;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  function draw(panel, wanted) {
    const cells = panel.querySelector("[data-cells]");
    if (cells) pictures(cells, panel, wanted);
    const mistakes = panel.querySelector("[data-mistakes]");
    if (mistakes) confusion(mistakes, wanted);
  }

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function chooser(form, name, title, options, fallback) {
    let select = form.querySelector(`select[name="${name}"]`);
    if (!select) {
      select = make("select", { name }, ...options.map(([value, label]) => make("option", { value }, label)));
      form.append(make("label", {}, title, select));
    }
    const values = options.map(([value]) => value);
    select.value = values.includes(state.get(name)) ? state.get(name) : fallback;
    return select.value;
  }

  function formOf(holder, label) {
    let form = holder.querySelector("form");
    if (!form) {
      form = make("form", {});
      form.setAttribute("aria-label", label);
      form.addEventListener("submit", (event) => event.preventDefault());
      holder.append(form);
    }
    return form;
  }

  function pictures(holder, panel, wanted) {
    const about = (holder.about ??= JSON.parse(holder.dataset.cells));
    const form = formOf(holder, "What the pictures show");
    const kinds = [["label", "label"], ...(about.batch.length ? [["batch", "batch"]] : [])];
    const kind = chooser(form, "color", "Color by", kinds, "label");
    const names = about[kind];
    const only = names.includes(state.get("only")) ? names.indexOf(state.get("only")) : -1;
    const codes = bytes(about[kind + "_of"]);
    let box = holder.querySelector(".plots");
    if (!box) holder.append((box = make("div", { className: "plots" })));
    box.replaceChildren();
    for (const [name, title, packed] of about.models) {
      if (!wanted(name, title)) continue;
      const canvas = make("canvas");
      const what = { places: (about.unpacked ??= {})[name] ??= bytes(packed), codes, names, only };
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `UMAP of ${title}, colored by ${kind}${only >= 0 ? `, ${names[only]} highlighted` : ""}`);
      const enlarge = make("button", { type: "button", onclick: () => large(title, what) }, canvas);
      enlarge.setAttribute("aria-label", `Enlarge the UMAP of ${title}`);
      box.append(make("figure", {}, enlarge, make("figcaption", {}, title)));
      plot(canvas, what, 240);
    }
    let legend = holder.querySelector(".key");
    if (!legend) holder.append((legend = make("ul", { className: "key" })));
    legend.replaceChildren(
      ...names.slice(0, MANY).map((name, code) => {
        const canvas = make("canvas");
        canvas.setAttribute("aria-hidden", "true");
        mark(sized(canvas, 14, 14), 7, 7, code, 4.5);
        const button = make("button", { type: "button", onclick: () => remember("only", code === only ? "" : name) }, canvas, name);
        button.setAttribute("aria-pressed", code === only);
        return make("li", {}, button);
      }),
      ...(names.length > MANY ? [make("li", {}, `${names.length - MANY} more in gray`)] : []),
    );
  }

  function large(title, what) {
    const canvas = make("canvas");
    const close = make("button", { type: "button" }, "Close");
    const dialog = make("dialog", { className: "large" }, make("form", { method: "dialog" }, make("b", {}, title), close), canvas);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    plot(canvas, what, Math.round(Math.min(innerWidth - 40, innerHeight - 110, 900)));
  }

  function sized(canvas, width, height) {
    const scale = Math.max(2, devicePixelRatio || 1);
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    return context;
  }

  function plot(canvas, { places, codes, names, only }, size) {
    const edge = 6;
    const context = sized(canvas, size, size);
    canvas.style.width = canvas.style.height = `${size}px`;
    const at = (n, turn) => edge + (turn ? 1 - n / 254 : n / 254) * (size - 2 * edge);
    const cells = [...codes.keys()].filter((cell) => places[2 * cell] !== 255);
    if (only >= 0) cells.sort((a, b) => (codes[a] === only) - (codes[b] === only));
    const points = cells.map((cell) => [at(places[2 * cell], false), at(places[2 * cell + 1], true), codes[cell]]);
    for (const [x, y, code] of points) {
      const faded = only >= 0 && code !== only;
      context.globalAlpha = faded ? 0.25 : 0.85;
      mark(context, x, y, faded ? MANY : code, size > 300 ? 3 : 1.8);
    }
    context.globalAlpha = 1;
    write(context, points, names, only, size);
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = [event.offsetX, event.offsetY];
      const far = ([a, b]) => (a - x) ** 2 + (b - y) ** 2;
      const nearest = points.reduce((best, point) => (far(point) < far(best) ? point : best), [1e9, 1e9, -1]);
      tip(far(nearest) < 64 ? (names[nearest[2]] ?? "other") : "", event, canvas);
    });
    canvas.addEventListener("pointerleave", () => tip(""));
  }

  /* The name of each label at the median of its cells, those of most cells first, where no other name stands. */
  function write(context, points, names, only, size) {
    const middle = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
    context.font = `600 ${size > 300 ? 13 : 10}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.lineJoin = "round";
    const style = getComputedStyle(document.body);
    [context.fillStyle, context.strokeStyle] = [style.color, style.backgroundColor];
    const taken = [];
    names.forEach((name, code) => {
      const own = points.filter((point) => point[2] === code);
      if (own.length < 3 || (only >= 0 && code !== only)) return;
      const text = name.length > 22 && size <= 300 ? name.slice(0, 21) + "\u2026" : name;
      const half = context.measureText(text).width / 2 + 2;
      const x = Math.min(Math.max(middle(own.map(([a]) => a)), half), size - half);
      const y = Math.min(Math.max(middle(own.map(([, b]) => b)), 8), size - 8);
      if (taken.some(([a, b, other]) => Math.abs(a - x) < half + other && Math.abs(b - y) < (size > 300 ? 15 : 12))) return;
      taken.push([x, y, half]);
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    });
  }

  const bubble = make("div", { className: "tip", hidden: true });
  function tip(text, event, canvas) {
    bubble.hidden = !text;
    if (!text) return;
    (canvas.closest("dialog") ?? document.body).append(bubble);
    bubble.textContent = text;
    bubble.style.left = `${Math.min(event.clientX + 12, innerWidth - bubble.offsetWidth - 8)}px`;
    bubble.style.top = `${event.clientY + 14}px`;
  }

  function mark(context, x, y, code, radius) {
    const shape = code < MANY ? SHAPES[Math.floor(code / COLORS.length)] : "disc";
    context.fillStyle = context.strokeStyle = code < MANY ? COLORS[code % COLORS.length] : OTHERS;
    context.beginPath();
    if (shape === "disc") context.arc(x, y, radius, 0, 7);
    else if (shape === "square") context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
    else {
      context.lineWidth = radius * 0.8;
      context.moveTo(x - radius, y - radius);
      context.lineTo(x + radius, y + radius);
      context.moveTo(x - radius, y + radius);
      context.lineTo(x + radius, y - radius);
      context.stroke();
      return;
    }
    context.fill();
  }

  function confusion(holder, wanted) {
    const about = (holder.about ??= JSON.parse(holder.dataset.mistakes));
    const models = about.models.filter(([name, title]) => wanted(name, title));
    const form = formOf(holder, "Mistakes of");
    form.replaceChildren();
    holder.querySelector(".scroll")?.remove();
    if (!models.length) return;
    const name = chooser(form, "of", "Model", models.map(([key, title]) => [key, title]), models[0][0]);
    const [, title, shares] = models.find(([key]) => key === name);
    const caption = `${title}: percentage of each label's cells (rows) by predicted label (columns); ${about.scheme}`;
    const of = (n) => (n >= 0.995 ? "100" : n >= 0.1 ? (100 * n).toFixed(0) : (100 * n).toFixed(1));
    const found = new Map(shares.map(([row, column, share]) => [row + "," + column, share]));
    const head = make("tr", {}, make("th", { scope: "col" }, "Label"));
    for (const label of about.labels) head.append(make("th", { scope: "col" }, label));
    const body = make("tbody");
    about.labels.forEach((label, row) => {
      const line = make("tr", {}, make("th", { scope: "row" }, label));
      about.labels.forEach((_, column) => {
        const share = found.get(row + "," + column);
        const cell = make("td", {}, share ? of(share) : "");
        if (share) cell.className = "v" + Math.round(12 * share);
        if (row === column) cell.classList.add("right");
        line.append(cell);
      });
      body.append(line);
    });
    const table = make("table", { className: "heat narrow confusion" }, make("caption", {}, make("span", {}, caption)), make("thead", {}, head), body);
    const scroll = make("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", caption);
    holder.append(scroll);
  }

  // --- listening ---

  for (const link of document.querySelectorAll("nav a")) link.dataset.page = link.getAttribute("href").slice(1);
  document.addEventListener("change", (event) => {
    if (event.target.matches("select[name]")) remember(event.target.name, event.target.value);
  });
  for (const name of ["model", "search"]) filters.elements[name].addEventListener("input", (event) => remember(name, event.target.value));
  for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => {
    state = new URLSearchParams();
    remember("", "");
  });
  addEventListener("hashchange", () => {
    const before = current;
    read();
    show();
    if (current !== before) {
      scrollTo(0, 0);
      current.querySelector("h2").focus({ preventScroll: true });
    }
  });
  document.documentElement.classList.add("js");
  read();
  show();
})();
