// The explorer: the reader picks model, format, cache and context, and sees what it needs and how fast it could be.
// Runs on the site as a file and in JupyterLab inside the output; each box with class "explorer" holds its data as JSON.
"use strict";
(() => {
  const LOOK = `
.explorer { --x-ink: var(--ink, var(--jp-ui-font-color1, #1d232b)); --x-soft: var(--soft, var(--jp-ui-font-color2, #57606a));
  --x-line: var(--line, var(--jp-border-color1, #d0d7de)); --x-paper: var(--paper, var(--jp-layout-color0, #ffffff));
  --x-wash: var(--wash, var(--jp-layout-color1, #f5f7f9)); --x-link: var(--link, var(--jp-brand-color1, #0a5cad));
  color: var(--x-ink); border: 1px solid var(--x-line); border-radius: 4px; background: var(--x-wash); padding: .8rem 1rem; margin: 1.2rem 0; max-width: 60rem; }
.explorer .picks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr)); gap: .6rem 1rem; }
.explorer label { display: block; font-size: .88rem; color: var(--x-soft); }
.explorer :is(select, input) { display: block; box-sizing: border-box; width: 100%; min-height: 2.2rem; font: inherit; font-size: 1rem; color: var(--x-ink);
  background: var(--x-paper); border: 1px solid var(--x-soft); border-radius: 3px; padding: .2rem .4rem; }
.explorer :is(select, input, summary):focus-visible { outline: 3px solid var(--x-link); outline-offset: 2px; }
.explorer .says { font-weight: 600; margin: .9rem 0 .5rem; }
.explorer .bar { position: relative; display: flex; height: 1.7rem; border: 1px solid var(--x-soft); background: var(--x-paper); margin-top: 1.5rem; }
.explorer .bar > span { height: 100%; border-right: 1px solid var(--x-ink); }
.explorer .bar > i { position: absolute; top: -.5rem; bottom: -.5rem; border-left: 3px solid var(--x-ink); }
.explorer .bar > b { position: absolute; top: -1.6rem; font-size: .82rem; font-weight: 400; color: var(--x-soft); white-space: nowrap; }
.explorer .weights { background: #0072b2; }
.explorer .cache { background: repeating-linear-gradient(45deg, #e69f00 0 6px, #8a5f00 6px 9px); }
.explorer .spare { background: repeating-linear-gradient(90deg, #999999 0 3px, transparent 3px 7px); }
.explorer ul { list-style: none; padding: 0; margin: .7rem 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .92rem; }
.explorer li > span { display: inline-block; width: .9rem; height: .9rem; border: 1px solid var(--x-ink); margin-right: .4rem; vertical-align: -.1rem; }
.explorer details { overflow-x: auto; } .explorer summary { cursor: pointer; color: var(--x-soft); font-size: .88rem; }
@media (forced-colors: active) { .explorer .bar > span, .explorer li > span { forced-color-adjust: none; } }`;

  const number = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const gb = (bytes) => `${number(bytes / 1e9, 1)} GB`;
  let made = 0;

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

  function fill(select, options, wanted, otherwise = (open) => open[0]) {
    select.replaceChildren(...options.map(([value, text, off]) => {
      const option = element("option", { value }, text);
      option.disabled = Boolean(off);
      return option;
    }));
    const open = options.filter(([, , off]) => !off).map(([value]) => String(value));
    select.value = open.includes(String(wanted)) ? wanted : otherwise(open);
  }

  function start(root) {
    root.dataset.ready = "yes";
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const model = element("select"), format = element("select"), kv = element("select"), context = element("select");
    const spare = element("input", { type: "number", min: 0, max: 64, step: 0.5, value: data.spare / 1e9 });
    const says = element("p", { class: "says", role: "status" });
    const bar = element("div", { class: "bar", role: "img" });
    const parts = element("ul");
    const speed = element("p");
    const chosen = () => data.models.find((each) => each.id === model.value);

    function options() {
      const { formats, limit } = chosen();
      fill(format, formats.map(([id, label]) => [id, label]), format.value || "ud-q3_k_xl");
      fill(context, data.contexts.map((tokens, i) => [i, tokens ? `${number(tokens, 0)} tokens` : "none", tokens > limit]), context.value || 4,
        (open) => open[open.length - 1]);
    }

    function show() {
      const picked = chosen(), [, , weights, read] = picked.formats.find(([id]) => id === format.value);
      const tokens = data.contexts[context.value], cache = picked.cache[kv.value][context.value];
      const kept = Math.min(Math.max(Number(spare.value) || 0, 0), 64) * 1e9;
      const need = weights + cache + kept, left = data.memory - need, scale = Math.max(need, data.memory) * 1.02;
      let sparks = 1;
      while ((weights + cache) / sparks + kept > data.memory && sparks < 99) sparks += 1;
      says.textContent = left >= 0 ? `Fits one Spark, with ${gb(left)} to spare.` : `Misses one Spark by ${gb(-left)}; ${sparks} would carry it.`;

      bar.replaceChildren(...[["weights", weights], ["cache", cache], ["spare", kept]].map(([name, bytes]) => {
        const part = element("span", { class: name });
        part.style.width = `${100 * bytes / scale}%`;
        return part;
      }));
      const line = element("i"), at = 100 * data.memory / scale, mark = element("b", {}, `offers ${gb(data.memory)}`);
      line.style.left = `${at}%`;
      mark.style.right = `${100 - at}%`;
      bar.append(line, mark);
      bar.setAttribute("aria-label", `${gb(need)} needed of ${gb(data.memory)} offered`);
      parts.replaceChildren(...[["weights", "weights", weights], ["cache", "cache", cache], ["spare", "set aside", kept]].map(([name, text, bytes]) =>
        element("li", {}, element("span", { class: name, "aria-hidden": "true" }), `${text} ${gb(bytes)}`)), element("li", {}, `together ${gb(need)}`));

      const seconds = (read + cache) / data.bandwidth, most = 1 / seconds;
      const computing = (picked.operations + picked.operations_cached * tokens) / data.peak / seconds;
      const [low, high] = data.reached, span = (scale) => `${number(scale * low, 0)} to ${number(scale * high, 0)}`;
      speed.textContent = `A token reads ${gb(read + cache)}, so one sequence decodes at most at ${number(most, 1)} tokens a second. `
        + `Measurements come to ${span(100)} % of such a bound: here ${span(most)} tokens a second. `
        + `At FP4, the arithmetic of a token would take ${number(100 * computing, 2)} % of its time.`
        + (left < 0 ? " (As if it fitted one Spark.)" : "");
    }

    // On the site the choice is in the address, so that a link carries it: #fit?model=...&format=...
    const fields = { model, format, cache: kv, context, spare };
    const kept = () => document.querySelector("link[href='style.css']")
      && history.replaceState(null, "", `#fit?${new URLSearchParams(Object.entries(fields).map(([name, control]) => [name, control.value]))}`);
    const given = new URLSearchParams(location.hash.startsWith("#fit?") ? location.hash.slice(5) : "");

    model.addEventListener("change", () => { options(); show(); kept(); });
    for (const control of [format, kv, context, spare]) control.addEventListener("input", () => { show(); kept(); });
    fill(model, data.models.map((each) => [each.id, each.title]), given.get("model") || data.models[0].id);
    fill(kv, data.caches.map((name) => [name, name]), given.get("cache") || data.caches[0]);
    options();
    for (const [control, value] of [[format, given.get("format")], [context, given.get("context")]]) {
      if ([...control.options].some((each) => each.value === value && !each.disabled)) control.value = value;
    }
    if (given.get("spare")) spare.value = given.get("spare");
    root.prepend(element("div", { class: "picks", role: "group", "aria-label": "What to fit" }, field("Model", model), field("Format", format),
      field("Cache", kv), field("Context", context), field("Set aside for the rest, GB", spare)), says, bar, parts, speed);
    for (const details of root.querySelectorAll("details")) details.open = false;
    show();
    if (given.size) root.scrollIntoView();
  }

  const roots = document.querySelectorAll(".explorer:not([data-ready])");
  if (roots.length && !document.getElementById("explorer-look")) document.head.append(element("style", { id: "explorer-look" }, LOOK));
  roots.forEach(start);
})();
