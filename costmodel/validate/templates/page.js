"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8a7a00", "#7F3C8D", "#11A579", "#999999"];
const colour = name => PALETTE[data.bounds.indexOf(name) % PALETTE.length];
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const narrow = () => window.innerWidth < 900;

function layout(more) {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12, color: css("--text") },
    margin: { l: 50, r: 12, t: 30, b: 42 }, hoverlabel: { align: "left" }, modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: css("--dim"), activecolor: css("--text") }, ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

const text = (columns, i) => Object.keys(columns).map(name => `${name}=${columns[name][i]}`).join(" ");
const wrapped = line => line.replace(/(.{44,}?) /g, "$1<br>");

function scatter(c) {
  const traces = data.bounds.filter(b => c.bound.some(i => data.bounds[i] === b)).map(b => {
    const rows = c.bound.map((n, i) => [n, i]).filter(([n]) => data.bounds[n] === b).map(([, i]) => i);
    return {
      type: "scatter", mode: "markers", name: `${b} (${rows.length})`, x: rows.map(i => c.measured[i]), y: rows.map(i => c.predicted[i]),
      text: rows.map(i => wrapped(text(c.columns, i))), marker: { color: colour(b), size: rows.length > 300 ? 4 : 6, opacity: 0.65 },
      hovertemplate: "%{text}<br>measured %{x:.4g} ms, predicted %{y:.4g} ms<extra>bound: " + b + "</extra>",
    };
  });
  const ends = [Math.min(...c.measured, ...c.predicted) / 1.3, Math.max(...c.measured, ...c.predicted) * 1.3];
  const line = (factor, dash) => ({
    type: "scatter", mode: "lines", x: ends, y: ends.map(e => e * factor), line: { color: css("--dim"), width: 1, dash }, hoverinfo: "skip", showlegend: false,
  });
  const range = ends.map(Math.log10);
  const axis = title => ({ title: { text: title }, type: "log", range, dtick: range[1] - range[0] > 1.5 ? 1 : "D2", exponentformat: "none" });
  return [[line(1, "solid"), line(2, "dot"), line(0.5, "dot"), ...traces], layout({
    xaxis: axis("measured, ms"), yaxis: axis("predicted, ms"), legend: { orientation: "h", y: 1.02, yanchor: "bottom", itemsizing: "constant", title: { text: "bound " } },
    margin: { l: 55, r: 12, t: 60, b: 45 },
  })];
}

function errors(c) {
  const middle = c.edges.slice(1).map((e, i) => (e + c.edges[i]) / 2);
  return [[{
    type: "bar", x: middle, y: c.counts, marker: { color: "#0072B2" }, hovertemplate: "log2 ratio %{x:.2f}: %{y:,} configurations<extra></extra>",
  }], layout({ bargap: 0.04, xaxis: { title: { text: "log2(predicted / measured)" } }, yaxis: { title: { text: "configurations" } },
    shapes: [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: css("--dim"), width: 1, dash: "dot" } }] })];
}

function ablation(c) {
  const names = c.ablation.map(a => a.name), kinds = [["rho", "ρ", "#0072B2"], ["top10", "top10", "#009E73"], ["mape", "mape", "#E69F00"]];
  const reach = Math.min(0.5, 1.1 * Math.max(0.02, ...c.ablation.flatMap(a => kinds.map(([key]) => Math.abs(a[key] ?? 0)))));
  return [kinds.map(([key, label, color]) => ({
    type: "bar", name: label, x: names, y: c.ablation.map(a => a[key]), marker: { color }, hovertemplate: `without %{x}: ${label} %{y:+.3f}<extra></extra>`,
  })), layout({ barmode: "group", bargap: 0.25, xaxis: { tickangle: -40 }, yaxis: { title: { text: "change without it" }, range: [-reach, reach] },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" } })];
}

function overview() {
  const marks = { model: ["#0072B2", "circle", 10], counts: ["#999999", "line-ns-open", 11], trees: ["#009E73", "diamond-open", 9], other: ["#E69F00", "x-thin-open", 9] };
  const labels = { model: "model", counts: "best of the baselines on counts", trees: "trees that saw 500 rows", other: "best other GPU's measurements" };
  const y = data.cases.map(c => c.name), short = narrow() ? y.map(n => n.length > 26 ? `${n.slice(0, 25)}…` : n) : y;
  return [Object.keys(marks).map(key => ({
    type: "scatter", mode: "markers", name: labels[key], x: data.cases.map(c => c.overview[key]), y: data.cases.map((_, i) => i), text: y,
    marker: { color: marks[key][0], symbol: marks[key][1], size: marks[key][2], line: { width: key === "model" ? 0 : 2, color: marks[key][0] } },
    hovertemplate: `%{text}<br>${labels[key]}: ρ %{x:.3f}<extra></extra>`,
  })).reverse(), layout({
    xaxis: { title: { text: "Spearman ρ" }, range: [data.least - 0.02, 1.015] },
    yaxis: { tickvals: y.map((_, i) => i), ticktext: short, range: [y.length - 0.4, -0.6] },
    legend: { orientation: "h", y: 1, yanchor: "bottom", traceorder: "reversed" }, margin: { l: 20, r: 12, t: narrow() ? 90 : 40, b: 42 }, hovermode: "closest",
  })];
}

const draw = { scatter, errors, ablation };
const cases = Object.fromEntries(data.cases.map(c => [c.id, c]));

function show(box) {
  const [traces, shape] = box.dataset.plot === "overview" ? overview() : draw[box.dataset.plot](cases[box.dataset.case]);
  box.dataset.drawn = "yes";
  Plotly.react(box, traces, shape, { responsive: true, displaylogo: false, displayModeBar: box.dataset.plot === "scatter" && !narrow() ? "hover" : false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
}

const near = new IntersectionObserver(seen => seen.forEach(s => {
  if (s.isIntersecting) { near.unobserve(s.target); show(s.target); }
}), { rootMargin: "600px" });
document.querySelectorAll(".plot").forEach(box => near.observe(box));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll(".plot[data-drawn]").forEach(show));

const value = cell => cell.dataset.v === undefined ? cell.textContent.trim().toLowerCase() : cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return String(a).localeCompare(String(b), undefined, { numeric: true });
  return a - b;
}
document.querySelectorAll("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, n) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : !head.classList.contains("word");
      heads.forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row, i) => [value(row.cells[n]), i, row]);
      rows.sort(([a, i], [b, j]) => Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) || i - j : (down ? -1 : 1) * compare(a, b) || i - j);
      rows.forEach(([, , row]) => table.tBodies[0].append(row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(); } });
  });
});

function follow() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
window.addEventListener("hashchange", follow);
follow();
const all = document.getElementById("all");
all.addEventListener("click", () => {
  const open = all.textContent === "open all";
  document.querySelectorAll("details.case").forEach(d => { d.open = open; });
  all.textContent = open ? "close all" : "open all";
});
