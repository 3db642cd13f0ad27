/* The report's behaviour. Without it the page shows every table, one below the other.

   The address holds the whole state: #page?profile=...&dataset=...&task=...&model=...&metric=...&sort=...
   section.page[data-filters]     the filters that concern a page
   [data-task|dataset|profile]    shown when equal to the filter, or when the filter is empty
   [data-model]                   shown when the key, the row's heading or a name elsewhere (data-also of its card) matches the filter
   [data-search]                  shown when the attribute matches the search
   form.choices select            chooses among the .panel elements by their data-metric, data-classifier, data-subset, data-split
   [data-cells], [data-mistakes]  JSON of pictures of embeddings and of confused labels, drawn when they are shown
   table.sortable th[data-key]    sorts; data-first="desc" puts the highest value first */
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
    for (const control of filters.elements) {
      if (!control.name) continue;
      control.value = state.get(control.name) ?? initial(control);
      if (control.selectedIndex < 0) control.value = initial(control);
    }
    const chosen = choose(current, concerned);
    for (const table of current.querySelectorAll("table.sortable")) sort(table);
    filter(current, concerned, chosen);
  }

  const initial = (control) => (control.name === "profile" ? control.options[0].value : "");

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
    for (const panel of page.querySelectorAll(".panel")) {
      if (panel.matches(".split")) {
        left += !panel.hidden;
        continue;
      }
      const rows = [...panel.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
      if (!rows.length || (panel.querySelector("thead th[data-task]") && !panel.querySelector("thead th[data-task]:not([hidden])"))) panel.hidden = true;
      if (!panel.hidden) left += 1;
    }
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

  /* Hide the columns of other tasks and models. The last row of the head has one heading per column. */
  function columns(table, fits) {
    for (const heading of table.tHead.querySelectorAll("[data-task], [data-model]")) heading.hidden = !fits(heading);
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((heading, at) => {
      if (heading.dataset.task !== undefined || heading.dataset.model !== undefined)
        for (const row of table.tBodies[0].rows) row.cells[at].hidden = heading.hidden;
    });
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
    const rows = [...body.rows].sort((a, b) => (at < 0 ? 0 : compare(a.cells[at], b.cells[at], down)) || a.place - b.place);
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

  // --- pictures of embeddings, and labels taken for labels ---

  /* Seven colors that color-blind readers tell apart (Okabe & Ito 2008), in three shapes; the rest share one more. */
  const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"];
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
    if (form.kind !== kind) {
      form.querySelector('select[name="only"]')?.closest("label").remove();
      form.kind = kind;
    }
    const only = chooser(form, "only", "Point out", [["", "all"], ...names.map((name) => [name, name])], "");
    const codes = bytes(about[kind + "_of"]);
    let box = holder.querySelector(".plots");
    if (!box) holder.append((box = make("div", { className: "plots" })));
    box.replaceChildren();
    for (const [name, title, packed] of about.models) {
      if (!wanted(name, title)) continue;
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `UMAP of ${title}, colored by ${kind}${only ? `, ${only} pointed out` : ""}`);
      box.append(make("figure", {}, canvas, make("figcaption", {}, title)));
      plot(canvas, bytes(packed), codes, only ? names.indexOf(only) : -1);
    }
    let legend = holder.querySelector(".key");
    if (!legend) holder.append((legend = make("ul", { className: "key" })));
    const shown = names.slice(0, MANY).map((name, code) => [name, code]);
    if (names.length > MANY) shown.push([`${names.length - MANY} more`, MANY]);
    legend.replaceChildren(
      ...shown.map(([name, code]) => {
        const canvas = make("canvas");
        canvas.setAttribute("aria-hidden", "true");
        const context = sized(canvas, 14, 14);
        mark(context, 7, 7, code, 4.5);
        return make("li", {}, canvas, name);
      }),
    );
  }

  function sized(canvas, width, height) {
    const scale = Math.max(2, devicePixelRatio || 1);
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    return context;
  }

  function plot(canvas, places, codes, only) {
    const [size, edge] = [210, 6];
    const context = sized(canvas, size, size);
    const order = [...codes.keys()];
    if (only >= 0) order.sort((a, b) => (codes[a] === only) - (codes[b] === only));
    for (const cell of order) {
      const [x, y] = [places[2 * cell], places[2 * cell + 1]];
      if (x === 255) continue;
      const faded = only >= 0 && codes[cell] !== only;
      context.globalAlpha = faded ? 0.25 : 0.85;
      mark(context, edge + (x / 254) * (size - 2 * edge), edge + (1 - y / 254) * (size - 2 * edge), faded ? MANY : codes[cell], 1.7);
    }
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
    const form = formOf(holder, "Whose mistakes");
    form.replaceChildren();
    holder.querySelector(".scroll")?.remove();
    if (!models.length) return;
    const name = chooser(form, "of", "Model", models.map(([key, title]) => [key, title]), models[0][0]);
    const [, title, shares] = models.find(([key]) => key === name);
    const caption = `${title}: of each label's cells (rows), the percentage that was called what (columns); ${about.scheme}`;
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
    if (event.target.matches("select")) remember(event.target.name, event.target.value);
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
