// The explorer of the atlas: the reader picks a kernel, and sees its bytes against the budget, and what fits beside it.
"use strict";
explorers.start("tile", (data, given) => {
  const { number, element, field, fill, draw, keep } = explorers, bytes = (each) => `${number(each)} B`;
  const titles = Object.fromEntries(data.picks), names = Object.keys(titles), kind = names.slice(0, -3);
  const rows = data.rows.map((row) => {
    const made = Object.fromEntries(names.map((name, at) => [name, data.words[name] ? data.words[name][row[at]] : row[at]]));
    const [stages, mainloop, epilogue, kernel, budget, message, type, command] = row.slice(names.length);
    return Object.assign(made, { stages, mainloop, epilogue, kernel, budget, message: data.messages[message], type, command, fits: kernel && kernel <= budget });
  });
  const controls = Object.fromEntries(names.map((name) => [name, element("select")]));
  const says = element("p", { class: "says", role: "status" }), bar = element("div", { class: "bar", role: "img" });
  const parts = element("ul"), beside = element("p"), type = element("pre", { tabindex: 0, "aria-label": "its C++ type" });
  const command = element("pre", { tabindex: 0, "aria-label": "the command that checks it" });
  const tile = (row) => `${row.m}x${row.n}x${row.k}`;

  // Each select offers what the ones before it leave, and keeps what was chosen where that is among it.
  function options(wanted) {
    let left = rows;
    for (const name of names) {
      const values = [...new Set(left.map((row) => row[name]))];
      if ("mnk".includes(name)) values.sort((one, other) => one - other);
      fill(controls[name], values.map((value) => [value, String(value)]), wanted(name), (open) => data.usual.find((each) => open.includes(each)) || open[0]);
      left = left.filter((row) => String(row[name]) === controls[name].value);
    }
    return left[0];
  }

  function button(row, ...words) {
    const made = element("button", { type: "button" }, tile(row), ...words);
    made.addEventListener("click", () => { pick((name) => row[name]); controls.m.focus(); });
    return made;
  }

  function show(row) {
    const same = rows.filter((each) => kind.every((name) => each[name] === row[name]));
    const steps = Object.fromEntries([..."mnk"].map((name) => [name, [...new Set(same.map((each) => each[name]))].sort((one, other) => one - other)]));
    const step = (each, name) => Math.abs(steps[name].indexOf(each[name]) - steps[name].indexOf(row[name]));
    const fitting = same.filter((each) => each.fits);
    const near = fitting.filter((each) => [..."mnk"].reduce((sum, name) => sum + step(each, name), 0) === 1);
    const size = (each) => each.m * each.n * each.k, most = fitting.reduce((best, each) => !best || size(each) > size(best) ? each : best, null);
    bar.hidden = parts.hidden = !row.kernel;
    if (!row.kernel) says.textContent = `Does not compile. CUTLASS says: ${row.message}`;
    else {
      const stages = `${row.stages} ${row.stages === 1 ? "stage" : "stages"}`;
      says.textContent = row.fits ? `Fits, with ${stages} and ${bytes(row.budget - row.kernel)} to spare.` : `Too large by ${bytes(row.kernel - row.budget)}, with ${stages}.`;
      draw(bar, parts, [["stages", row.mainloop], ["epilogue", row.epilogue], ["barriers and the rest", Math.max(row.kernel - row.mainloop - row.epilogue, 0)]],
        row.budget, `a block may have ${bytes(row.budget)}`, bytes);
    }
    beside.replaceChildren(...(most ? ["The largest tile of this kind that fits: ", button(most), `, with ${bytes(most.budget - most.kernel)} to spare. `]
      : ["No tile of this kind in the atlas fits. "]), near.length ? "Neighbours that fit: " : "No neighbour fits.",
      ...near.flatMap((each, at) => [at ? " " : "", button(each)]));
    const placed = (text) => data.texts[text].replace("{2m}", 2 * row.m).replace("{m}", row.m).replace("{n}", row.n).replace("{k}", row.k).replace("{s}", row.asked);
    type.textContent = placed(row.type);
    command.textContent = placed(row.command);
  }

  function pick(wanted) {
    show(options(wanted));
    keep("tile", controls);
  }

  for (const control of Object.values(controls)) control.addEventListener("input", () => pick((name) => controls[name].value));
  show(options((name) => given.get(name)));
  return [element("div", { class: "picks", role: "group", "aria-label": "Which kernel" }, ...names.map((name) => field(titles[name], controls[name]))),
    says, bar, parts, beside, element("p", {}, "Its C++ type, of lib/bug1_shared_memory/units/gemm.cuh:"), type,
    element("p", {}, "The command that checks it, in a clone of this collection:"), command];
});
