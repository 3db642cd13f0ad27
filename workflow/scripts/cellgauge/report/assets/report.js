/* The report's behaviour. Without it the page shows every table, one below the other.

   The address holds the whole state: #page?profile=...&dataset=...&task=...&model=...&metric=...&sort=...
   section.page[data-filters]     the filters that concern a page
   [data-task|dataset|profile]    shown when equal to the filter, or when the filter is empty
   [data-model]                   shown when a word of it, or the row's heading, contains the filter's text
   form.choices select            chooses among the .panel elements by their data-metric, data-classifier, data-subset
   table.sortable th[data-key]    sorts; data-first="desc" puts the highest value first */
"use strict";
(() => {
  const pages = [...document.querySelectorAll("main > section.page")];
  const filters = document.getElementById("filters");
  const status = document.getElementById("status");
  const CHOICES = ["profile", "metric", "classifier", "subset"];
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
    let panels = [...page.querySelectorAll(".panel")];
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
    const words = concerned.includes("model") ? (state.get("model") || "").trim().toLowerCase() : "";
    const fits = (element) =>
      CHOICES.every((key) => element.dataset[key] === undefined || chosen[key] === undefined || element.dataset[key] === chosen[key]) &&
      ["dataset", "task"].every((key) => {
        const wanted = concerned.includes(key) && state.get(key);
        return !wanted || element.dataset[key] === undefined || element.dataset[key] === wanted;
      }) &&
      (!words || element.dataset.model === undefined || named(element).includes(words));
    for (const element of page.querySelectorAll("[data-task],[data-dataset],[data-profile],[data-metric],[data-model]"))
      if (element.tagName !== "TH") element.hidden = !fits(element);
    for (const table of page.querySelectorAll("table.heat")) columns(table, fits);
    let left = 0;
    for (const panel of page.querySelectorAll(".panel")) {
      const rows = [...panel.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
      if (!rows.length || (panel.querySelector("thead th[data-task]") && !panel.querySelector("thead th[data-task]:not([hidden])"))) panel.hidden = true;
      if (!panel.hidden) left += 1;
    }
    for (const card of page.querySelectorAll(".card")) left += !card.hidden;
    const empty = page.querySelector(".nothing");
    empty.hidden = left > 0 || !page.querySelector(".panel, .card");
    status.textContent = empty.hidden ? `${left} tables shown` : empty.textContent;
  }

  function named(element) {
    const heading = element.querySelector("th, h4") || element;
    return `${element.dataset.model} ${heading.textContent}`.toLowerCase();
  }

  /* Hide the columns of other tasks. The last row of the head has one heading per column. */
  function columns(table, fits) {
    for (const heading of table.tHead.querySelectorAll("[data-task]")) heading.hidden = !fits(heading);
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((heading, at) => {
      if (heading.dataset.task !== undefined)
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

  // --- listening ---

  for (const link of document.querySelectorAll("nav a")) link.dataset.page = link.getAttribute("href").slice(1);
  document.addEventListener("change", (event) => {
    if (event.target.matches("select")) remember(event.target.name, event.target.value);
  });
  filters.elements.model.addEventListener("input", (event) => remember("model", event.target.value));
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
