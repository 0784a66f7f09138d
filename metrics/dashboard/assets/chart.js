// Charts over time, as SVG.
import { clock, el, svg } from "./text.js";

const height = 168, left = 46, right = 4, top = 8, bottom = 20;

// Chart draws series into host. options:
//   series   [{name, cls, of(point) → number or null}]
//   format   of a value
//   stacked  one above the other
//   max      the end of the scale, if it is fixed
//   log      the scale is logarithmic
//   least    the scale's end is at least this
//   nothing  what to say when there is nothing
export class Chart {
  constructor(host, options) {
    this.host = host;
    this.points = [];
    this.legend = el("div.legend");
    this.svg = svg("svg", { height, role: "img" });
    this.tip = el("div.tip", { hidden: "" });
    host.replaceChildren(this.legend, this.svg, this.tip);
    this.set(options);
    new ResizeObserver(() => this.draw()).observe(host);
    host.addEventListener("pointermove", (e) => this.hover(e));
    host.addEventListener("pointerleave", () => this.unhover());
    host.addEventListener("pointercancel", () => this.unhover());
  }

  set(options) {
    this.o = options;
    this.values = options.series.map((s) => {
      const b = el("b", {}, "–");
      return { b, e: el("span." + s.cls, {}, el("i"), s.name, b) };
    });
    this.legend.replaceChildren(...this.values.map((v) => v.e));
    this.draw();
  }

  // show draws points of the given length in time, in ms.
  show(points, span) {
    this.points = points;
    this.span = span;
    this.draw();
  }

  draw() {
    const o = this.o, width = this.host.clientWidth;
    if (!width || !this.points.length) return;
    const end = this.points.at(-1).t, begin = end - this.span;
    this.shown = this.points.filter((p) => p.t >= begin);
    const rows = this.shown.map((p) => o.series.map((s) => (p.dt ? s.of(p) : null)));
    const latest = rows.findLast((r) => r.some((v) => v !== null));
    this.values.forEach((v, i) => (v.b.textContent = rows.length && rows.at(-1)[i] !== null ? o.format(rows.at(-1)[i]) : "–"));
    this.x = (t) => left + ((t - begin) / this.span) * (width - left - right);
    this.scale(rows);
    this.rows = rows;

    const parts = [];
    for (const v of this.ticks) {
      const y = this.y(v);
      parts.push(svg("line", { x1: left, x2: width - right, y1: y, y2: y, class: v === this.low ? "rule base" : "rule" }));
      parts.push(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, o.format(v).replace(/\.0+(?=\D|$)/, "")));
    }
    for (let back = 0, step = this.span / (width < 420 ? 2 : 5); back < this.span * 0.95; back += step) {
      parts.push(svg("text", { x: this.x(end - back), y: height - 3, "text-anchor": back ? "middle" : "end" }, back ? ago(back) : "now"));
    }
    const base = rows.map((r) => (r.some((v) => v !== null) ? 0 : null));
    o.series.forEach((s, i) => {
      const low = o.stacked ? [...base] : null;
      const high = rows.map((r, j) => (r[i] === null ? null : o.stacked ? (base[j] += r[i]) : r[i]));
      const g = svg("g", { class: s.cls });
      for (const [from, to] of runs(high)) {
        const path = [];
        for (let j = from; j < to; j++) path.push(this.x(this.shown[j].t).toFixed(1) + " " + this.y(high[j]).toFixed(1));
        if (to - from === 1 && o.stacked) {
          const x = this.x(this.shown[from].t);
          g.append(svg("rect", { x: x - 1, width: 2, y: this.y(high[from]), height: Math.max(0, this.y(low[from]) - this.y(high[from])), class: "area full" }));
          continue;
        }
        if (to - from === 1) {
          const [x, y] = path[0].split(" ");
          g.append(svg("circle", { cx: x, cy: y, r: 2, class: "dot" }));
          continue;
        }
        if (o.stacked || i === 0 || o.fill) {
          const back = [];
          for (let j = to - 1; j >= from; j--) back.push(this.x(this.shown[j].t).toFixed(1) + " " + this.y(low ? low[j] : this.low).toFixed(1));
          g.append(svg("path", { d: "M" + path.join("L") + "L" + back.join("L") + "Z", class: o.stacked ? "area full" : "area soft" }));
        }
        if (!o.stacked) g.append(svg("path", { d: "M" + path.join("L"), class: "line" }));
      }
      parts.push(g);
    });
    if (!latest) parts.push(svg("text", { x: left + (width - left) / 2, y: height / 2, class: "nothing" }, o.nothing ?? "Nothing yet"));
    this.mark = svg("g");
    parts.push(this.mark);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", o.series.map((s, i) => s.name + " " + this.values[i].b.textContent).join(", "));
    this.svg.replaceChildren(...parts);
    if (this.at !== undefined) this.point(this.at);
  }

  scale(rows) {
    const o = this.o, h = height - top - bottom;
    const all = rows.flatMap((r) => (o.stacked ? [r.reduce((a, b) => a + (b ?? 0), 0)] : r.filter((v) => v !== null)));
    if (o.log) {
      const pos = all.filter((v) => v > 0);
      const lo = Math.floor(Math.log10(pos.length ? Math.min(...pos) : 1)), hi = Math.max(lo + 1, Math.ceil(Math.log10(pos.length ? Math.max(...pos) : 1000)));
      this.low = 10 ** lo;
      this.y = (v) => top + h * (1 - (Math.log10(Math.max(v, this.low)) - lo) / (hi - lo));
      const step = Math.ceil((hi - lo) / 5);
      this.ticks = [];
      for (let e = hi; e >= lo; e -= step) this.ticks.push(10 ** e);
      return;
    }
    this.low = 0;
    const step = nice(Math.max(o.max ?? 0, o.max ? 0 : Math.max(0, ...all), o.least ?? 0) / 4);
    const max = o.max ?? Math.max(step * Math.ceil(Math.max(...all, o.least ?? 0) / step), step);
    this.y = (v) => top + h * (1 - v / max);
    this.ticks = [];
    for (let v = 0; v <= max * 1.0001; v += o.max ? max / 4 : step) this.ticks.push(v);
  }

  hover(e) {
    if (!this.shown?.length) return;
    const x = e.clientX - this.host.getBoundingClientRect().left;
    let best = 0;
    this.shown.forEach((p, i) => {
      if (Math.abs(this.x(p.t) - x) < Math.abs(this.x(this.shown[best].t) - x)) best = i;
    });
    this.at = this.shown[best].t;
    this.point(this.at);
  }

  unhover() {
    this.at = undefined;
    this.tip.hidden = true;
    this.mark?.replaceChildren();
  }

  point(t) {
    const i = this.shown.findIndex((p) => p.t === t);
    if (i < 0) return this.unhover();
    const x = this.x(t);
    this.mark.replaceChildren(svg("line", { x1: x, x2: x, y1: top, y2: height - bottom, class: "cross" }));
    this.tip.replaceChildren(
      el("div.when", {}, clock(t)),
      ...this.o.series.map((s, j) => el("div", {}, el("span", {}, s.name), el("b", {}, this.rows[i][j] === null ? "–" : this.o.format(this.rows[i][j])))));
    this.tip.hidden = false;
    const w = this.tip.offsetWidth, room = this.host.clientWidth;
    this.tip.style.left = Math.max(0, x + 12 + w > room ? x - 12 - w : x + 12) + "px";
  }
}

// runs are the ranges of values without a gap.
function runs(values) {
  const out = [];
  let from = -1;
  values.forEach((v, i) => {
    if (v !== null && from < 0) from = i;
    if (v === null && from >= 0) { out.push([from, i]); from = -1; }
  });
  if (from >= 0) out.push([from, values.length]);
  return out;
}

// nice is the next number that people count in.
function nice(n) {
  if (n <= 0) return 0.25;
  const p = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].find((m) => m * p >= n * 0.9999) * p;
}

const ago = (ms) => (ms < 60000 ? Math.round(ms / 1000) + " s ago" : +(ms / 60000).toFixed(1) + " min ago");

// spark is a small line without a scale.
export function spark(values, cls) {
  const w = 84, h = 24, max = Math.max(...values.filter((v) => v !== null), 1e-9);
  const s = svg("svg", { viewBox: `0 0 ${w} ${h}`, class: "chart " + cls, "aria-hidden": "true" });
  const x = (i) => (values.length < 2 ? w : (i / (values.length - 1)) * w);
  for (const [from, to] of runs(values)) {
    const path = [];
    for (let j = from; j < to; j++) path.push(x(j).toFixed(1) + " " + (h - 2 - (values[j] / max) * (h - 4)).toFixed(1));
    s.append(svg("path", { d: "M" + path.join("L"), class: "line" }));
  }
  return s;
}
