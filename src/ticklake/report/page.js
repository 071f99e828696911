"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 560px)");

  // Colours stand in the specifications as names of style sheet variables.
  const coloured = (value, style) => {
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
    }
    return typeof value === "string" && value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
  };

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line") };
    // The same margins for all, so that times stand above each other; the tool bar has the top one for itself.
    const margin = { l: narrow.matches ? 72 : 104, r: 12, t: 36, b: 44 };
    document.querySelectorAll("[data-chart]").forEach((node) => {
      const { data, layout } = coloured(specs[Number(node.dataset.chart)], style);
      const whole = {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: narrow.matches ? false : "zoom",
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink-soft") },
        margin,
        legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom" },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--ink-soft"), activecolor: colour("--accent") },
        hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
        ...layout,
        xaxis: { type: "date", ...axis, nticks: narrow.matches ? 4 : 10, ...layout.xaxis },
        yaxis: { ...axis, ...layout.yaxis },
        ...(layout.yaxis2 ? { yaxis2: { ...axis, ...layout.yaxis2 } } : {}),
      };
      if (narrow.matches) for (const name of ["yaxis", "yaxis2"]) if (whole[name]) delete whole[name].title;
      Plotly.react(node, data, whole, { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] });
    });
  };

  // A zoom of one chart is the zoom of all; what that makes the others say is not listened to.
  const charts = [...document.querySelectorAll("[data-chart]")];
  let following = false;
  const follow = async (source, event) => {
    const zoomed = "xaxis.range[0]" in event;
    if (following || !(zoomed || event["xaxis.autorange"])) return;
    const range = zoomed ? [event["xaxis.range[0]"], event["xaxis.range[1]"]] : specs[0].layout.xaxis.range;
    following = true;
    await Promise.all(charts.filter((node) => !zoomed || node !== source).map((node) => Plotly.relayout(node, { "xaxis.range": [...range] })));
    following = false;
  };

  draw();
  charts.forEach((node) => node.on("plotly_relayout", (event) => follow(node, event)));
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
