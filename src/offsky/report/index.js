"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const body = byId("table").tBodies[0];
  const rows = Array.from(body.rows);
  const texts = new Map(rows.map((row) => [row, `${row.textContent} ${row.dataset.state}`.toLowerCase()]));
  const heads = Array.from(document.querySelectorAll("[data-sort]"));
  const filter = byId("filter");
  const pictures = JSON.parse(byId("offsky-pictures").textContent);
  const state = { sort: "", down: false };

  function apply() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row).includes(word));
      if (!row.hidden) shown++;
    }
    const count = byId("count");
    count.dataset.shown = shown;
    count.textContent = `${shown} of ${rows.length} products`;
    sheet();
  }

  function order() {
    const column = heads.findIndex((head) => head.dataset.sort === state.sort);
    heads.forEach((head, i) => head.parentElement.setAttribute("aria-sort", i !== column ? "none" : state.down ? "descending" : "ascending"));
    if (column < 0) { body.append(...rows); return; }
    const numeric = heads[column].dataset.kind !== "text";
    const key = (row) => { const cell = row.cells[column]; return "key" in cell.dataset ? cell.dataset.key : cell.textContent; };
    const keyed = rows.map((row) => [key(row), row]);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === "");
      const sign = numeric ? a - b : a.localeCompare(b);
      return state.down ? -sign : sign;
    });
    body.append(...keyed.map(([, row]) => row));
  }

  function remember() {
    const kept = new URLSearchParams();
    if (filter.value) kept.set("filter", filter.value);
    if (state.sort) kept.set("sort", (state.down ? "-" : "") + state.sort);
    if (byId("kind").value !== "after") kept.set("pictures", byId("kind").value);
    const text = kept.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function fromFragment() {
    const asked = new URLSearchParams(location.hash.slice(1));
    filter.value = asked.get("filter") || "";
    const sort = asked.get("sort") || "";
    state.down = sort.startsWith("-");
    state.sort = heads.some((head) => head.dataset.sort === sort.replace(/^-/, "")) ? sort.replace(/^-/, "") : "";
    const kind = asked.get("pictures");
    byId("kind").value = Array.from(byId("kind").options).some((option) => option.value === kind) ? kind : "after";
    order();
    apply();
  }

  function sheet() {
    const kind = byId("kind").value;
    const items = [];
    for (const row of body.rows) {
      const address = (pictures[row.dataset.name] || {})[kind];
      if (row.hidden || !address) continue;
      const item = document.createElement("li"), image = document.createElement("img");
      image.loading = "lazy";
      image.width = image.height = 96;
      image.src = "./" + encodeURIComponent(address);
      image.alt = row.dataset.name;
      const link = document.createElement(row.querySelector("a") ? "a" : "span");
      if (link.tagName === "A") link.href = row.querySelector("a").getAttribute("href");
      link.title = `${row.dataset.name}: ${row.dataset.state}`;
      link.append(image);
      item.className = row.dataset.state;
      item.append(link);
      items.push(item);
    }
    byId("pictures").replaceChildren(...items);
  }

  filter.addEventListener("input", () => { apply(); remember(); });
  byId("kind").addEventListener("change", () => { sheet(); remember(); });
  for (const head of heads) {
    head.addEventListener("click", () => {
      state.down = state.sort === head.dataset.sort && !state.down;
      state.sort = head.dataset.sort;
      order(); sheet(); remember();
    });
  }
  window.addEventListener("hashchange", fromFragment);

  byId("save").addEventListener("click", () => {
    const told = {};
    for (const row of rows) {
      const verdict = row.querySelector("[data-verdict]").value, note = row.querySelector("[data-note]").value;
      if (verdict || note) told[row.dataset.name] = { verdict, note };
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify({ format: "offsky-verdicts", version: 1, products: told }, null, 1) + "\n"], { type: "application/json" }));
    link.download = "verdicts.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  byId("load").addEventListener("change", async (event) => {
    const file = event.target.files[0];
    if (!file) return;
    try {
      const told = JSON.parse(await file.text()).products;
      for (const row of rows) {
        const known = Object.hasOwn(told, row.dataset.name) ? told[row.dataset.name] : null;
        if (!known) continue;
        row.querySelector("[data-verdict]").value = ["accept", "flag"].includes(known.verdict) ? known.verdict : "";
        row.querySelector("[data-note]").value = String(known.note || "");
      }
    } catch { byId("count").textContent = "That file holds no verdicts"; }
  });

  fromFragment();
  requestAnimationFrame(() => { document.documentElement.dataset.offskyState = "ready"; });
})();
