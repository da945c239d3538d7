// Draws the charts of the page Retention from the JSON beside them, in the theme's colors. The tables say the same.
"use strict";

(() => {
  const root = document.querySelector(".rt");
  if (!root || !window.echarts) return;

  // A color that SVG understands, whatever function the theme writes it with.
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const color = (name) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = getComputedStyle(root).getPropertyValue(name).trim() || "#888";
    probe.fillRect(0, 0, 1, 1);
    const [red, green, blue] = probe.getImageData(0, 0, 1, 1).data;
    return `rgb(${red}, ${green}, ${blue})`;
  };
  const isNarrow = () => root.clientWidth < 600;

  const frame = () => ({
    animation: false,
    textStyle: { fontFamily: getComputedStyle(root).fontFamily, color: color("--quiet") },
    tooltip: {
      renderMode: "richText", confine: true, backgroundColor: color("--card"), borderColor: color("--line"),
      textStyle: { color: color("--strong"), fontSize: 12 },
    },
  });
  const axis = (more) => ({
    axisLine: { lineStyle: { color: color("--line") } }, axisTick: { show: false },
    axisLabel: { color: color("--quiet") }, splitLine: { lineStyle: { color: color("--line") } }, ...more,
  });

  const draw = {
    heatmap(data) {
      const known = data.cells.filter((cell) => cell.rate !== null);
      const most = Math.max(100, ...known.map((cell) => cell.rate));
      return {
        ...frame(),
        tooltip: { ...frame().tooltip, formatter: (point) => point.data.hint },
        grid: { left: 8, right: 8, top: 8, bottom: 8, containLabel: true },
        xAxis: axis({ type: "category", data: data.columns, splitLine: { show: false } }),
        yAxis: axis({ type: "category", data: data.lines, inverse: true, splitLine: { show: false } }),
        visualMap: { show: false, min: 0, max: most, inRange: { color: [color("--low"), color("--high")] } },
        series: [{
          type: "heatmap",
          data: known.map((cell) => ({
            value: [cell.x, cell.y, cell.rate], hint: cell.hint, text: cell.text,
            label: { color: cell.rate > most * 0.6 ? color("--on-high") : color("--strong") },
          })),
          label: { show: !isNarrow() && data.columns.length <= 14, formatter: (point) => point.data.text, fontSize: 11 },
          itemStyle: { borderColor: color("--card"), borderWidth: 1 },
        }],
      };
    },
    line(data) {
      const band = { type: "line", symbol: "none", stack: "band", lineStyle: { opacity: 0 }, silent: true };
      return {
        ...frame(),
        tooltip: {
          ...frame().tooltip, trigger: "axis",
          formatter: (points) => `${data.days[points[0].dataIndex]}: ${data.hints[points[0].dataIndex]}`,
        },
        grid: { left: 8, right: 16, top: 16, bottom: 8, containLabel: true },
        xAxis: axis({ type: "category", data: data.days, boundaryGap: false, splitLine: { show: false }, axisLabel: { color: color("--quiet"), interval: 14 } }),
        yAxis: axis({ type: "value", min: 0, max: 10000, axisLabel: { color: color("--quiet"), formatter: (value) => `${value / 100} %` } }),
        series: [
          { ...band, data: data.lows },
          { ...band, data: data.highs.map((high, at) => high - data.lows[at]), areaStyle: { color: color("--curve"), opacity: 0.18 } },
          { type: "line", symbol: "none", step: "end", data: data.rates, lineStyle: { color: color("--curve"), width: 2 }, itemStyle: { color: color("--curve") } },
        ],
      };
    },
    sankey(data) {
      const labels = Object.fromEntries(data.nodes.map((node) => [node.id, node.label]));
      const side = isNarrow() ? 90 : 140;
      return {
        ...frame(),
        tooltip: { ...frame().tooltip, formatter: (point) => point.data.hint || `${labels[point.name]}: ${point.value}` },
        series: [{
          type: "sankey", left: side, right: side, top: 8, bottom: 8, nodeGap: 12, draggable: false,
          data: data.nodes.map((node) => ({
            name: node.id, depth: node.depth ? 1 : 0, itemStyle: { color: color("--high"), borderColor: color("--high") },
            label: { position: node.depth ? "right" : "left" },
          })),
          links: data.links.map((link) => ({ source: link.from, target: link.to, value: link.members, hint: link.hint })),
          label: { color: color("--strong"), fontSize: 11, width: side - 12, overflow: "truncate", formatter: (point) => labels[point.name] },
          lineStyle: { color: color("--curve"), opacity: 0.25 }, emphasis: { lineStyle: { opacity: 0.5 } },
        }],
      };
    },
  };

  const charts = [];
  for (const place of root.querySelectorAll("[data-chart]")) {
    const data = JSON.parse(document.getElementById(place.dataset.source).textContent);
    const lines = data.lines ? data.lines.length : 0;
    if (!(data.cells || data.days || data.links).length) { place.hidden = true; continue; }
    place.style.height = `${Math.max(240, 60 + lines * 26)}px`;
    const chart = window.echarts.init(place, null, { renderer: "svg" });
    charts.push(() => { chart.resize(); chart.setOption(draw[place.dataset.chart](data), true); });
  }
  const redraw = () => charts.forEach((one) => one());
  let waiting = 0;
  const redrawSoon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(redraw); };
  redraw();
  window.addEventListener("resize", redrawSoon);
  new MutationObserver(redrawSoon).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
})();
