"use strict";
(() => {
  const style = () => getComputedStyle(document.documentElement);
  const colour = (name) => style().getPropertyValue(name).trim();
  const palette = () => [0, 1, 2, 3, 4, 5, 6, 7].map((i) => colour(`--c${i}`));

  function axis(given) {
    const line = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line") };
    return { automargin: true, ticks: "", ...line, ...given, title: { standoff: 10, ...given.title, font: { size: 12, color: colour("--soft") } } };
  }

  function layout(figure) {
    return {
      ...figure.layout,
      xaxis: axis(figure.layout.xaxis),
      yaxis: axis(figure.layout.yaxis),
      colorway: palette(),
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
      margin: figure.tall ? { l: 56, r: 40, t: 34, b: 48 } : { l: 52, r: 16, t: 12, b: 44 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11, color: colour("--soft") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent") },
      hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--line"), align: "left", font: { color: colour("--ink") } },
    };
  }

  function painted(trace) {
    if (trace.role === "front") return { ...trace, line: { ...trace.line, color: colour("--soft") } };
    if (!trace.role) return trace;
    const fill = colour(trace.role === "front-marker" ? "--c0" : "--c7");
    const edge = { ...trace.marker.line, color: colour("--paper") };
    return { ...trace, marker: { ...trace.marker, color: fill, opacity: 0.85, line: edge }, textfont: { size: 11, color: colour("--ink") } };
  }

  function draw() {
    const held = document.getElementById("figures");
    if (!held || typeof Plotly === "undefined") return;
    const figures = JSON.parse(held.textContent);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = figures[Number(place.dataset.figure)];
      const traces = figure.data.map(painted);
      Plotly.react(place, traces, layout(figure), { responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
    }
  }

  function copies(button) {
    const text = button.parentElement.querySelector("code").textContent;
    const say = (word) => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    const select = () => { getSelection().selectAllChildren(button.parentElement.querySelector("code")); say("Selected"); };
    if (!navigator.clipboard) { select(); return; }
    navigator.clipboard.writeText(text).then(() => say("Copied"), select);
  }

  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copies(button));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
