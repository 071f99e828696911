"use strict";
(() => {
  const { charts: specs, tables } = JSON.parse(document.getElementById("page-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 560px)");
  const nodes = [...document.querySelectorAll("[data-chart]")];
  const specOf = (node) => specs[Number(node.dataset.chart)];

  // Colours stand in the specifications as names of style sheet variables.
  const coloured = (value, style) => {
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((item) => coloured(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
    }
    return typeof value === "string" && value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
  };

  // What all charts over time show: the window, or what one of them was zoomed to.
  let zoom = null;

  const draw = (node) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--ink-soft"), zerolinewidth: 1 };
    const { data, layout, time } = coloured(specOf(node), style);
    // The same margins for all over time, so that times stand above each other; the tool bar has the top one for itself.
    const margin = { l: narrow.matches || !time ? 72 : 104, r: 12, t: narrow.matches ? 28 : 36, b: 44 };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: narrow.matches ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink-soft") },
      margin,
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", traceorder: "normal" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--ink-soft"), activecolor: colour("--accent") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") }, align: "left" },
      ...(time && layout.xaxis?.type !== "linear" ? { annotations: [{ text: "UTC", xref: "paper", yref: "paper", x: 1, y: 0, yshift: -20, xanchor: "right", yanchor: "top", showarrow: false, font: { size: 11 } }] } : {}),
      ...layout,
      xaxis: { ...axis, ...(time ? { type: "date", nticks: narrow.matches ? 4 : 10 } : {}), ...layout.xaxis, ...(time && zoom ? { range: zoom } : {}) },
      yaxis: { ...axis, automargin: narrow.matches, ...layout.yaxis },
      ...(layout.yaxis2 ? { yaxis2: { ...axis, automargin: narrow.matches, ...layout.yaxis2 } } : {}),
    };
    if (narrow.matches) for (const name of ["yaxis", "yaxis2"]) if (whole[name]) delete whole[name].title;
    const again = node.classList.contains("js-plotly-plot");
    Plotly.react(node, data, whole, { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] });
    if (!again && time) node.on("plotly_relayout", (event) => follow(node, event));
  };
  const drawn = () => nodes.filter((node) => node.classList.contains("js-plotly-plot"));

  // A zoom of one chart is the zoom of all; what that makes the others say is not listened to.
  let following = false;
  const follow = async (source, event) => {
    const zoomed = "xaxis.range[0]" in event;
    if (following || !(zoomed || event["xaxis.autorange"])) return;
    zoom = zoomed ? [event["xaxis.range[0]"], event["xaxis.range[1]"]] : null;
    following = true;
    const others = drawn().filter((node) => specOf(node).time && (!zoomed || node !== source));
    await Promise.all(others.map((node) => Plotly.relayout(node, { "xaxis.range": [...(zoom ?? specOf(node).layout.xaxis.range)] })));
    following = false;
  };

  // A chart is drawn when it comes near the screen: a page of many opens as fast as one of few.
  const watcher = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
    watcher.unobserve(target);
    draw(target);
  }), { rootMargin: "600px 0px" });
  nodes.forEach((node) => watcher.observe(node));
  const redraw = () => drawn().forEach(draw);
  dark.addEventListener("change", redraw);
  narrow.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => nodes.forEach(draw));

  // Tables: all their rows are searched and sorted, a page of them is in the document.
  const unpacked = (column) => (Array.isArray(column[0]) ? column[1].map((index) => column[0][index]) : column);
  const numberOf = (text) => (text === "–" ? -Infinity : Number(text.replaceAll(",", "").replace("−", "-").replace("+", "")));
  const searchable = (node) => {
    const name = node.dataset.table;
    const { size, numeric, columns: packed } = tables[name];
    const columns = packed.map(unpacked);
    const [input, status, body] = ["input", "[role=status]", "tbody"].map((what) => node.querySelector(what));
    const [back, forth] = node.querySelectorAll("[data-step]");
    const heads = [...node.querySelectorAll("th")];
    const all = columns[0].map((_, row) => row);
    const texts = all.map((row) => columns.map((column) => column[row]).join("\u0000").toLowerCase());
    let rows = all, page = 0, sorted = null, down = false;

    const show = () => {
      const pages = Math.max(1, Math.ceil(rows.length / size));
      page = Math.min(page, pages - 1);
      body.replaceChildren(...rows.slice(page * size, (page + 1) * size).map((row) => {
        const line = document.createElement("tr");
        columns.forEach((column, index) => {
          const cell = line.insertCell();
          cell.textContent = column[row];
          if (numeric[index]) cell.className = "n";
        });
        return line;
      }));
      const of = rows.length === all.length ? "" : `${rows.length.toLocaleString("en")} of `;
      status.textContent = `${of}${all.length.toLocaleString("en")} ${all.length === 1 ? name.slice(0, -1) : name}`;
      back.parentElement.hidden = pages === 1;
      back.nextElementSibling.textContent = `page ${page + 1} of ${pages}`;
      [back.disabled, forth.disabled] = [page === 0, page === pages - 1];
      heads.forEach((head, index) => head.setAttribute("aria-sort", index !== sorted ? "none" : down ? "descending" : "ascending"));
    };
    const arrange = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows = all.filter((row) => words.every((word) => texts[row].includes(word)));
      if (sorted !== null) {
        const keys = numeric[sorted] ? columns[sorted].map(numberOf) : columns[sorted];
        rows.sort((a, b) => (keys[a] < keys[b] ? -1 : keys[a] > keys[b] ? 1 : 0) * (down ? -1 : 1) || a - b);
      }
      page = 0;
      show();
    };
    heads.forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        [down, sorted] = [sorted === index && !down, index];
        arrange();
      });
    });
    input.addEventListener("input", arrange);
    [back, forth].forEach((button) => button.addEventListener("click", () => { page += Number(button.dataset.step); show(); }));
    show();
  };
  // Nothing of a table is needed before it is unfolded.
  document.querySelectorAll("[data-table]").forEach((node) => {
    node.closest("details").addEventListener("toggle", () => searchable(node), { once: true });
  });
})();
