// The Machine page's chart: score over limit, below it each chosen sensor, on one time axis with episodes and model
// changes. The server sends numbers; zone, theme and the live tail are known here.
(() => {
  "use strict";
  const clientside = (window.dash_clientside = window.dash_clientside || {});
  const room = (clientside.room = clientside.room || {});
  const kept = { of: null, data: null };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly takes times as they are written: write them in the viewer's zone.
  const local = (us) => {
    const d = new Date(us / 1000);
    return new Date(us / 1000 - d.getTimezoneOffset() * 60000).toISOString().slice(0, -1);
  };
  const utc = (us) => new Date(us / 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";

  // Where nothing was measured there is no line.
  const broken = (line) => {
    const t = line.time_us, x = [], at = [];
    const step = t.length > 2 ? [...t.keys()].slice(1).map((i) => t[i] - t[i - 1]).sort((a, b) => a - b)[t.length >> 1] : 0;
    const longest = Math.max(10e6, 5 * step);
    for (let i = 0; i < t.length; i++) {
      if (i && t[i] - t[i - 1] > longest) { x.push(local(t[i - 1] + 1)); at.push(-1); }
      x.push(local(t[i]));
      at.push(i);
    }
    return { x, pick: (values) => at.map((i) => (i < 0 ? null : values[i])) };
  };

  const merge = (line, points) => {
    const last = line.time_us.length ? line.time_us[line.time_us.length - 1] : 0;
    for (const [t, v, limit] of points) {
      if (t <= last) continue;
      line.time_us.push(t);
      line.value.push(v);
      if (line.limit) line.limit.push(limit);
    }
  };

  const take = (data, tail) => {
    if (kept.of !== data) {
      const copy = structuredClone(data);
      copy.score.limit = copy.limit;
      kept.of = data;
      kept.data = copy;
    }
    if (!data.live || !tail) return kept.data;
    merge(kept.data.score, tail.score);
    for (const { name, points } of tail.overlays) {
      const line = kept.data.overlays.find((each) => each.name === name);
      if (line) merge(line, points);
    }
    const newest = Math.max(kept.data.end_us, ...[kept.data.score, ...kept.data.overlays].map((l) => l.time_us[l.time_us.length - 1] || 0));
    kept.data.start_us += newest - kept.data.end_us;
    kept.data.end_us = newest;
    for (const line of [kept.data.score, ...kept.data.overlays]) {
      while (line.time_us.length && line.time_us[0] < kept.data.start_us) {
        line.time_us.shift();
        line.value.shift();
        if (line.limit) line.limit.shift();
      }
    }
    return kept.data;
  };

  room.chart = (data, tail, marks) => {
    if (!data) return window.dash_clientside.no_update;
    const shown = take(data, tail);
    const ink = colour("--ink"), muted = colour("--muted"), grid = colour("--grid"), line = colour("--line");
    const abnormal = colour("--abnormal"), band = colour("--band"), surface = colour("--card");
    const panels = [shown.score, ...shown.overlays];
    const gap = 0.07, height = (1 - gap * (panels.length - 1)) / panels.length;
    const layout = {
      margin: { l: 62, r: 14, t: 40, b: 34 }, height: 264 + 150 * shown.overlays.length,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: "inherit", size: 12, color: muted }, hovermode: "x unified", dragmode: "zoom",
      hoverlabel: { bgcolor: surface, bordercolor: grid, font: { color: ink } },
      xaxis: { type: "date", range: [local(shown.start_us), local(shown.end_us)], gridcolor: grid, linecolor: grid, zeroline: false, anchor: `y${panels.length > 1 ? panels.length : ""}`, fixedrange: false },
      shapes: [], annotations: [],
    };
    const traces = [];
    panels.forEach((each, i) => {
      const axis = i ? `y${i + 1}` : "y";
      const top = 1 - i * (height + gap);
      layout[i ? `yaxis${i + 1}` : "yaxis"] = { domain: [Math.max(0, top - height), top], gridcolor: grid, zeroline: false, rangemode: i ? "normal" : "tozero", fixedrange: true, nticks: 5, automargin: false };
      layout.annotations.push({ text: i ? `${each.name}${each.unit ? ", " + each.unit : ""}` : "anomaly score", xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", yshift: i ? 0 : 16, showarrow: false, font: { color: ink, size: 12 } });
      if (each.low !== null && each.low !== undefined) layout.shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, yref: axis, y0: each.low, y1: each.high, fillcolor: band, line: { width: 0 }, layer: "below" });
      const { x, pick } = broken(each);
      if (!i) traces.push({ x, y: pick(each.limit), name: "limit", mode: "lines", line: { color: muted, width: 1.4, dash: "dash", shape: "hv" }, hovertemplate: "%{y:.4g}", yaxis: axis });
      traces.push({ x, y: pick(each.value), customdata: pick(each.time_us.map(utc)), name: each.name, mode: "lines", line: { color: line, width: 1.7 }, hovertemplate: `%{y:.4g} ${each.unit || ""}<br>%{customdata}`, yaxis: axis, connectgaps: false });
      if (!i) {
        const over = each.value.map((v, k) => (v !== null && each.limit[k] !== null && v > each.limit[k] ? v : null));
        traces.push({ x, y: pick(over), name: "over limit", mode: "lines+markers", line: { color: abnormal, width: 2.2 }, marker: { color: abnormal, size: 3, symbol: "diamond" }, hoverinfo: "skip", yaxis: axis, connectgaps: false });
      }
    });
    for (const mark of marks || []) {
      if (mark.start_us > shown.end_us || (mark.end_us !== null && mark.end_us < shown.start_us)) continue;
      if (mark.kind === "anomaly") {
        const x0 = local(Math.max(mark.start_us, shown.start_us)), x1 = local(Math.min(mark.end_us || shown.end_us, shown.end_us));
        layout.shapes.push({ type: "rect", xref: "x", x0, x1, yref: "paper", y0: 0, y1: 1, fillcolor: abnormal, opacity: 0.1, line: { width: 0 }, layer: "below" });
        layout.shapes.push({ type: "line", xref: "x", x0, x1: x0, yref: "paper", y0: 0, y1: 1, line: { color: abnormal, width: 1.5 }, layer: "below" });
        const late = mark.start_us > shown.end_us - 0.1 * (shown.end_us - shown.start_us);
        layout.annotations.push({ text: "◆ anomaly", x: x0, xref: "x", y: 1, yref: "paper", yanchor: "bottom", xanchor: late ? "right" : "left", showarrow: false, font: { color: abnormal, size: 11 } });
      } else if (mark.start_us >= shown.start_us) {
        layout.shapes.push({ type: "line", xref: "x", x0: local(mark.start_us), x1: local(mark.start_us), yref: "paper", y0: 0, y1: 1, line: { color: ink, width: 1.2, dash: "dot" }, layer: "below" });
        const late = mark.start_us > shown.end_us - 0.1 * (shown.end_us - shown.start_us);
        layout.annotations.push({ text: `▲ ${mark.text}`, x: local(mark.start_us), xref: "x", y: 1, yref: "paper", yanchor: "top", xanchor: late ? "right" : "left", showarrow: false, font: { color: ink, size: 11 } });
      }
    }
    rows();
    return { data: traces, layout };
  };

  // The table beside the chart, made when it is opened and with each change while it is open: newest first, at most 60.
  const rows = () => {
    const box = document.getElementById("chart-rows"), data = kept.data;
    if (!box || !data || !box.parentElement.open) return;
    const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text }, more);
    const said = (v) => (v === null || v === undefined ? "\u2013" : String(Number(v.toPrecision(4))));
    const { time_us: time, value, limit } = data.score;
    const near = (line, t) => {
      let best = null;
      line.time_us.forEach((u, i) => { if (best === null || Math.abs(u - t) < Math.abs(line.time_us[best] - t)) best = i; });
      return best === null ? null : line.value[best];
    };
    const table = document.createElement("table");
    table.append(make("caption", "Score over time", { className: "unseen" }));
    const head = document.createElement("tr");
    for (const title of ["Time", "Score", "Limit", "Over limit", ...data.overlays.map((l) => `${l.name}${l.unit ? ", " + l.unit : ""}`)]) head.append(make("th", title, { scope: "col" }));
    table.createTHead().append(head);
    const body = table.createTBody();
    const step = Math.max(1, Math.ceil(time.length / 60));
    for (let i = time.length - 1; i >= 0; i -= step) {
      const row = body.insertRow();
      row.append(make("th", local(time[i]).replace("T", " ").slice(0, 19), { scope: "row", title: utc(time[i]) }));
      for (const cell of [said(value[i]), said(limit[i]), value[i] !== null && value[i] > limit[i] ? "over" : "", ...data.overlays.map((l) => said(near(l, time[i])))]) row.append(make("td", cell));
    }
    const scroll = make("div", "", { className: "table", tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Score over time as a table");
    scroll.append(table);
    const top = box.firstElementChild ? box.firstElementChild.scrollTop : 0;
    const focused = box.contains(document.activeElement);
    box.replaceChildren(scroll);
    scroll.scrollTop = top;
    if (focused) scroll.focus({ preventScroll: true });
  };
  document.addEventListener("toggle", (event) => { if (event.target.id === "chart-table") rows(); }, true);

  // A dragged range becomes the page's address; the server then reads that range anew, as fine as the screen shows.
  room.zoom = (change) => {
    if (!change) return window.dash_clientside.no_update;
    const url = new URL(location.href);
    if (change["xaxis.range[0]"]) {
      const us = (text) => String(Math.round(new Date(String(change[text]).replace(" ", "T")).getTime() * 1000));
      url.searchParams.set("from", us("xaxis.range[0]"));
      url.searchParams.set("to", us("xaxis.range[1]"));
      url.searchParams.delete("range");
    } else if (change["xaxis.autorange"]) {
      url.searchParams.delete("from");
      url.searchParams.delete("to");
    } else {
      return window.dash_clientside.no_update;
    }
    room.go(url.href);
    return window.dash_clientside.no_update;
  };
})();
