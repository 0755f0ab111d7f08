// What the explorers share: the look, fields, the bar, and a state that is in the address of the site.
// Runs on the site as a file and in JupyterLab inside the output; each box with class "explorer" holds its data as JSON, with its kind.
"use strict";
window.explorers = window.explorers || (() => {
  const LOOK = `
.explorer { --x-ink: var(--ink, var(--jp-ui-font-color1, #1d232b)); --x-soft: var(--soft, var(--jp-ui-font-color2, #57606a));
  --x-line: var(--line, var(--jp-border-color1, #d0d7de)); --x-paper: var(--paper, var(--jp-layout-color0, #ffffff));
  --x-wash: var(--wash, var(--jp-layout-color1, #f5f7f9)); --x-link: var(--link, var(--jp-brand-color1, #0a5cad));
  color: var(--x-ink); border: 1px solid var(--x-line); border-radius: 4px; background: var(--x-wash); padding: .8rem 1rem; margin: 1.2rem 0; max-width: 60rem; }
.explorer .picks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr)); gap: .6rem 1rem; }
.explorer label { display: block; font-size: .88rem; color: var(--x-soft); }
.explorer :is(select, input) { display: block; box-sizing: border-box; width: 100%; min-height: 2.2rem; font: inherit; font-size: 1rem; color: var(--x-ink);
  background: var(--x-paper); border: 1px solid var(--x-soft); border-radius: 3px; padding: .2rem .4rem; }
.explorer :is(select, input, summary, button, pre):focus-visible { outline: 3px solid var(--x-link); outline-offset: 2px; }
.explorer .says { font-weight: 600; margin: .9rem 0 .5rem; }
.explorer .bar { position: relative; display: flex; height: 1.7rem; border: 1px solid var(--x-soft); background: var(--x-paper); margin-top: 1.5rem; }
.explorer .bar > span { height: 100%; border-right: 1px solid var(--x-ink); }
.explorer .bar > i { position: absolute; top: -.5rem; bottom: -.5rem; border-left: 3px solid var(--x-ink); }
.explorer .bar > b { position: absolute; top: -1.6rem; font-size: .82rem; font-weight: 400; color: var(--x-soft); white-space: nowrap; }
.explorer .part-0 { background: #0072b2; }
.explorer .part-1 { background: repeating-linear-gradient(45deg, #e69f00 0 6px, #8a5f00 6px 9px); }
.explorer .part-2 { background: repeating-linear-gradient(90deg, #999999 0 3px, transparent 3px 7px); }
.explorer ul { list-style: none; padding: 0; margin: .7rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .92rem; }
.explorer li > span { display: inline-block; width: .9rem; height: .9rem; border: 1px solid var(--x-ink); margin-right: .4rem; vertical-align: -.1rem; }
.explorer button { font: inherit; color: var(--x-link); background: none; border: 1px solid var(--x-soft); border-radius: 3px; min-height: 2rem; padding: .1rem .5rem; cursor: pointer; }
.explorer pre { font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; color: var(--x-ink); background: var(--x-paper); border: 1px solid var(--x-line); padding: .4rem .6rem; }
.explorer [hidden] { display: none; }
.explorer details { overflow-x: auto; } .explorer summary { cursor: pointer; color: var(--x-soft); font-size: .88rem; }
@media (forced-colors: active) { .explorer .bar > span, .explorer li > span { forced-color-adjust: none; } }`;
  let made = 0;

  const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function field(text, control) {
    control.id = `explorer-field-${made += 1}`;
    return element("div", {}, element("label", { for: control.id }, text), control);
  }

  // Options of a select: [value, text, whether it cannot be had]; `wanted` stays chosen where it can be.
  function fill(select, options, wanted, otherwise = (open) => open[0]) {
    select.replaceChildren(...options.map(([value, text, off]) => {
      const option = element("option", { value }, text);
      option.disabled = Boolean(off);
      return option;
    }));
    const open = options.filter(([, , off]) => !off).map(([value]) => String(value));
    select.value = open.includes(String(wanted)) ? wanted : otherwise(open);
  }

  // Parts ([name, amount]) in a bar up to `limit`, and in a list below it.
  function draw(bar, list, parts, limit, words, text, scale = Math.max(limit, parts.reduce((sum, [, each]) => sum + each, 0)) * 1.02) {
    bar.replaceChildren(...parts.map(([, amount], at) => {
      const part = element("span", { class: `part-${at}` });
      part.style.width = `${100 * amount / scale}%`;
      return part;
    }));
    const line = element("i"), place = 100 * limit / scale, mark = element("b", {}, words);
    line.style.left = `${place}%`;
    mark.style.right = `${100 - place}%`;
    bar.append(line, mark);
    const sum = parts.reduce((sum, [, each]) => sum + each, 0);
    bar.setAttribute("aria-label", `${text(sum)} needed of ${text(limit)} offered`);
    list.replaceChildren(...parts.map(([name, amount], at) =>
      element("li", {}, element("span", { class: `part-${at}`, "aria-hidden": "true" }), `${name} ${text(amount)}`)), element("li", {}, `together ${text(sum)}`));
  }

  // On the site the choice is in the address, so that a link carries it: #fit?model=...&format=...
  const given = (kind) => new URLSearchParams(location.hash.startsWith(`#${kind}?`) ? location.hash.slice(kind.length + 2) : "");
  const keep = (kind, fields) => document.querySelector("link[href='style.css']")
    && history.replaceState(null, "", `#${kind}?${new URLSearchParams(Object.entries(fields).map(([name, control]) => [name, control.value]))}`);

  // Begin every box of a kind: `begin` gets its data and what was given in the address, and returns what goes above the table.
  function start(kind, begin) {
    if (!document.getElementById("explorer-look")) document.head.append(element("style", { id: "explorer-look" }, LOOK));
    document.querySelectorAll(`.explorer[data-kind="${kind}"]:not([data-ready])`).forEach((root) => {
      root.dataset.ready = "yes";
      const asked = given(kind);
      root.prepend(...begin(JSON.parse(root.querySelector("script[type='application/json']").textContent), asked));
      for (const details of root.querySelectorAll("details.all")) details.open = false;
      if (asked.size) root.scrollIntoView();
    });
  }

  return { number, element, field, fill, draw, keep, start };
})();
