// Draws the charts in the colours of the page, folds their tables, searches, explains terms, marks the section in view.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")];
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// Contents: beside the text where there is room, folded below the title where there is none.
const heads = document.body.matches(".notebook, .bug, .machine") ? [...document.querySelectorAll("main h2[id], main h3[id]")] : [];
const list = () => make("ol", {}, ...heads.map((head) => make("li", { class: head.tagName.toLowerCase() }, make("a", { href: `#${head.id}` }, head.textContent))));
if (heads.length > 2) {
  document.querySelector(".columns").prepend(make("nav", { class: "toc", "aria-label": "On this page" }, list()));
  document.querySelector("main h1")?.after(make("details", { class: "toc" }, make("summary", {}, "On this page"), list()));
}

// Charts. Ink and paper that are written into a figure follow the page's.
const hue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function figureOf(plot) {
  const text = document.getElementById(plot.dataset.chart).textContent
    .replaceAll("rgba(255,255,255,0.85)", hue("--veil")).replaceAll(/"(#333333|black|#000000)"/g, `"${hue("--ink")}"`);
  const { data, layout } = JSON.parse(text);
  return [data, { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { ...layout.font, color: hue("--ink") } }];
}

async function draw(plot) {
  const figure = plot.closest("figure"), details = figure.querySelector("details");
  try {
    const [data, layout] = figureOf(plot);
    plot.style.height = `${(layout.height || layout.template?.layout?.height || 380)}px`;
    await Plotly.react(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    details.open = false;
    figure.dataset.drawn = "yes";
  } catch (error) {
    plot.hidden = true;
    figure.querySelector(".undrawn").hidden = false;
    details.open = true;
    figure.dataset.drawn = "no";
  }
}

// Charts change the height of what is above a section that a link led to.
Promise.all(plots.map(draw)).then(() => { if (plots.length && location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView(); });
dark.addEventListener("change", () => plots.filter((plot) => plot.closest("figure").dataset.drawn === "yes").forEach(draw));

// Numbers stand right, with the head of their column. On a phone, a table that is too wide becomes cards: on a finding's page, and elsewhere if it is short.
const NUMERIC = /^([-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?|–)$/, DATE = /^\d{4}-\d\d-\d\d$/;
for (const table of document.querySelectorAll(".outputs table, .scroll table")) {
  const rows = [...table.rows], body = [...(table.tBodies[0]?.rows || [])];
  for (let at = 0; at < (rows[0]?.cells.length || 0); at += 1) {
    const texts = body.map((row) => row.cells[at]?.textContent.trim()).filter((text) => text !== undefined);
    if (texts.length && texts.every((text) => NUMERIC.test(text))) for (const row of rows) row.cells[at]?.classList.add("number");
    if (texts.length && texts.every((text) => DATE.test(text))) for (const row of body) row.cells[at]?.classList.add("nowrap");
    for (const row of body) row.cells[at]?.setAttribute("data-label", rows[0].cells[at].textContent);
  }
  const box = table.closest(".scroll");
  const most = document.body.matches(".finding") ? 480 : 48, cells = body.length * Math.min(rows[0]?.cells.length, 8);
  if (innerWidth <= 768 && cells <= most && box?.scrollWidth > box?.clientWidth) table.classList.add("cards");
}

// A long table of a finding can be narrowed by words, which stand in the address: #kernels?128x256+bf16.
for (const box of document.querySelectorAll(".finding main .scroll")) {
  const id = box.previousElementSibling?.id, rows = [...(box.querySelector("tbody")?.rows || [])];
  if (!id || rows.length <= 12) continue;
  const field = make("input", { type: "text", "aria-label": `Rows of ${id} with these words`, placeholder: "rows with, e.g. bf16" });
  const count = make("output", {});
  const narrow = () => {
    const asked = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !asked.every((word) => row.textContent.toLowerCase().includes(word));
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  const [place, given] = decodeURIComponent(location.hash.slice(1).replaceAll("+", " ")).split("?");
  if (place === id && given) field.value = given;
  field.addEventListener("input", () => {
    narrow();
    history.replaceState(null, "", `#${id}${field.value.trim() ? `?${encodeURIComponent(field.value.trim()).replaceAll("%20", "+")}` : ""}`);
  });
  box.before(make("p", { class: "narrow" }, field, count));
  narrow();
  if (place === id && given) field.scrollIntoView({ block: "center" });
}

// Links that can be passed on.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(new URL(button.dataset.copy, location.href).href);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy link"; }, 1500);
    });
  }
}

// The section in view, and the page in the row of pages.
const links = new Map([...document.querySelectorAll("nav.toc a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
function mark() {
  let last;
  for (const [id, link] of links) {
    link.removeAttribute("aria-current");
    if (document.getElementById(id)?.getBoundingClientRect().top < 140) last = link;
  }
  last?.setAttribute("aria-current", "true");
}
if (links.size) {
  addEventListener("scroll", mark, { passive: true });
  mark();
}
const pages = document.querySelector("nav.pages"), current = pages?.querySelector("[aria-current]");
if (current) pages.scrollLeft = current.offsetLeft - pages.offsetLeft - 40;

// The search: over findings, claims, headings, code and terms, in the browser alone; what it knows comes when it is asked.
const input = document.getElementById("find"), hits = document.getElementById("hits");
const words = (text) => text.split(/[\s()[\]{}|:;"“”‘’`/]+/).map((word) => word.replace(/^[.,!?]+|[.,!?]+$/g, "")).filter(Boolean);
let index, coming;

const script = (src) => new Promise((done, failed) => {
  const node = make("script", { src });
  node.addEventListener("load", done);
  node.addEventListener("error", failed);
  document.head.append(node);
});

async function indexed() {
  await (coming ||= Promise.all([script("minisearch.js"), script("search.js")]));
  if (index) return index;
  index = new MiniSearch({ fields: ["title", "text"], storeFields: ["href", "title", "kind", "said"], tokenize: words,
    searchOptions: { prefix: true, combineWith: "AND", boost: { title: 3 }, fuzzy: (term) => (/\d/.test(term) || term.length < 5 ? false : 0.2),
      boostDocument: (id, term, kept) => ({ finding: 2, claim: 1.5, source: 0.4, machine: 0.4 })[kept.kind] || 1 } });
  index.addAll([...SEARCH.map(([href, title, kind, said, text], id) => ({ id, href, title, kind, said, text })),
    ...Object.entries(TERMS).map(([term, text], id) => ({ id: `term-${id}`, href: "glossary.html", title: term, kind: "term", said: text, text }))]);
  return index;
}

async function show() {
  const known = await indexed();
  const found = input.value.trim() ? known.search(input.value).slice(0, 12) : [];
  hits.replaceChildren(...found.map((each) => make("li", {}, make("a", { href: each.href }, each.title), make("span", { class: "kind" }, each.kind), make("span", { class: "said" }, each.said))));
  if (!found.length && input.value.trim()) hits.append(make("li", {}, "Nothing found."));
  hits.hidden = !hits.children.length;
}

if (input) {
  input.closest("search").hidden = false;
  input.addEventListener("focus", indexed);
  input.addEventListener("input", show);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { input.value = ""; show(); }
    if (event.key === "Enter") hits.querySelector("a")?.click();
    if (event.key === "ArrowDown") { event.preventDefault(); hits.querySelector("a")?.focus(); }
  });
  hits.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    (event.target.closest("li")[step]?.querySelector("a") || input).focus();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) { event.preventDefault(); input.focus(); }
  });
  document.addEventListener("click", (event) => { if (!event.target.closest("search")) hits.hidden = true; });
}

// Terms: the first of each in the prose is explained on hover, focus and tap.
function explain() {
  const terms = TERMS, left = new Set(Object.keys(terms));
  const escaped = [...left].sort((a, b) => b.length - a.length).map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\w.-])(${escaped.join("|")})(?![\\w-])`);
  const walker = document.createTreeWalker(document.getElementById("main"), NodeFilter.SHOW_TEXT, (node) => {
    const parent = node.parentElement;
    return parent.closest(".prose p, .prose li, .finding .summary, .finding .claim, .do dd, .lead, .said p") && !parent.closest("a, code, pre, button, h1, h2, h3")
      ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_SKIP;
  });
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (let node of nodes) {
    for (let found, from = 0; (found = pattern.exec(node.data.slice(from)));) {
      const at = from + found.index, term = found[1];
      if (!left.delete(term)) { from = at + term.length; continue; }
      const rest = node.splitText(at);
      node = rest.splitText(term.length);
      rest.replaceWith(make("dfn", { tabindex: 0, "aria-describedby": "tip" }, term));
      from = 0;
    }
  }
  const tip = make("div", { id: "tip", role: "tooltip", hidden: "" });
  document.body.append(tip);
  const open = ({ target }) => {
    const term = target.closest?.("dfn");
    tip.hidden = !term;
    if (!term) return;
    tip.textContent = terms[term.textContent];
    const box = term.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${box.bottom + 6 + scrollY}px`;
  };
  for (const name of ["mouseover", "focusin", "click"]) document.addEventListener(name, open);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
}
if (typeof TERMS === "object" && !document.body.matches(".glossary, .source")) explain();

// Print: nothing folded that a reader needs, and bars without patterns, which a printer takes apart into megabytes.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("figure.chart details, details.needed")) details.open = true;
  for (const plot of plots) if (plot.data?.some((trace) => trace.marker?.pattern)) Plotly.restyle(plot, { "marker.pattern.shape": "" });
});
addEventListener("afterprint", () => plots.filter((plot) => plot.data).forEach(draw));
