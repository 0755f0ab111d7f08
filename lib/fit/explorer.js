// The explorer of models: the reader picks model, format, cache and context, and sees what it needs and how fast it could be.
"use strict";
explorers.start("fit", (data, given) => {
  const { number, element, field, fill, draw, keep } = explorers, gb = (bytes) => `${number(bytes / 1e9, 1)} GB`;
  const model = element("select"), format = element("select"), kv = element("select"), context = element("select");
  const spare = element("input", { type: "number", min: 0, max: 64, step: 0.5, value: data.spare / 1e9 });
  const says = element("p", { class: "says", role: "status" }), bar = element("div", { class: "bar", role: "img" });
  const parts = element("ul"), speed = element("p");
  const chosen = () => data.models.find((each) => each.id === model.value);

  function options() {
    const { formats, limit } = chosen();
    fill(format, formats.map(([id, label]) => [id, label]), format.value || "ud-q3_k_xl");
    fill(context, data.contexts.map((tokens, i) => [i, tokens ? `${number(tokens)} tokens` : "none", tokens > limit]), context.value || 4,
      (open) => open[open.length - 1]);
  }

  function show() {
    const picked = chosen(), [, , weights, read] = picked.formats.find(([id]) => id === format.value);
    const tokens = data.contexts[context.value], cache = picked.cache[kv.value][context.value];
    const kept = Math.min(Math.max(Number(spare.value) || 0, 0), 64) * 1e9;
    const left = data.memory - weights - cache - kept;
    let sparks = 1;
    while ((weights + cache) / sparks + kept > data.memory && sparks < 99) sparks += 1;
    says.textContent = left >= 0 ? `Fits one Spark, with ${gb(left)} to spare.` : `Misses one Spark by ${gb(-left)}; ${sparks} would carry it.`;
    draw(bar, parts, [["weights", weights], ["cache", cache], ["set aside", kept]], data.memory, `offers ${gb(data.memory)}`, gb);

    const seconds = (read + cache) / data.bandwidth, most = 1 / seconds;
    const computing = (picked.operations + picked.operations_cached * tokens) / data.peak / seconds;
    const [low, high] = data.reached, span = (scale) => `${number(scale * low)} to ${number(scale * high)}`;
    speed.textContent = `A token reads ${gb(read + cache)}, so one sequence decodes at most at ${number(most, 1)} tokens a second. `
      + `Measurements come to ${span(100)} % of such a bound: here ${span(most)} tokens a second. `
      + `At FP4, the arithmetic of a token would take ${number(100 * computing, 2)} % of its time.`
      + (left < 0 ? " (As if it fitted one Spark.)" : "");
  }

  const fields = { model, format, cache: kv, context, spare };
  model.addEventListener("change", () => { options(); show(); keep("fit", fields); });
  for (const control of [format, kv, context, spare]) control.addEventListener("input", () => { show(); keep("fit", fields); });
  fill(model, data.models.map((each) => [each.id, each.title]), given.get("model") || data.models[0].id);
  fill(kv, data.caches.map((name) => [name, name]), given.get("cache") || data.caches[0]);
  options();
  for (const [control, value] of [[format, given.get("format")], [context, given.get("context")]]) {
    if ([...control.options].some((each) => each.value === value && !each.disabled)) control.value = value;
  }
  if (given.get("spare")) spare.value = given.get("spare");
  show();
  return [element("div", { class: "picks", role: "group", "aria-label": "What to fit" }, field("Model", model), field("Format", format),
    field("Cache", kv), field("Context", context), field("Set aside for the rest, GB", spare)), says, bar, parts, speed];
});
