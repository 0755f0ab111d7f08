// Draws the charts in the colours of the page, folds their tables once they are drawn, and copies ids of findings.
"use strict";

function theme(element) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", "font.color": ink, "hoverlabel.font.color": undefined };
}

async function draw(plot) {
  const figure = plot.closest("figure");
  try {
    const { data, layout } = JSON.parse(document.getElementById(plot.dataset.chart).textContent);
    plot.style.height = `${(layout.height || layout.template?.layout?.height || 380)}px`;
    await Plotly.newPlot(plot, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    await Plotly.relayout(plot, theme());
    figure.querySelector("details").open = false;
    figure.dataset.drawn = "yes";
  } catch (error) {
    plot.hidden = true;
    figure.querySelector(".undrawn").hidden = false;
    figure.querySelector("details").open = true;
    figure.dataset.drawn = "no";
  }
}

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy id"; }, 1500);
    });
  }
}

const plots = [...document.querySelectorAll(".plot")];
plots.forEach(draw);
copyButtons();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots) if (plot.closest("figure").dataset.drawn === "yes") Plotly.relayout(plot, theme());
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("figure.chart details")) details.open = true;
});
