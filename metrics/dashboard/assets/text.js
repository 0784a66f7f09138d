// Elements and texts. Whatever comes from a cache gets into the page as text, by
// textContent, and never as markup.

export const $ = (id) => document.getElementById(id);

// el makes an element: el("p.note", {title: "…"}, "text", child, …).
export function el(what, attrs, ...children) {
  const [tag, ...classes] = what.split(".");
  const e = document.createElement(tag);
  if (classes.length) e.className = classes.join(" ");
  for (const [k, v] of Object.entries(attrs ?? {})) if (v !== undefined && v !== null) e.setAttribute(k, v);
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

export function svg(tag, attrs, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attrs ?? {})) e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// Characters that can't be seen, or that turn the direction of others, are shown by
// their number: two names that look alike are not.
const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb\ufffd]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

// foreign makes an isolated piece of a text that is not ours.
export function foreign(text, what = "bdi") {
  const e = el(what, { title: text.length > 24 ? visible(text) : undefined });
  let from = 0;
  for (const m of text.matchAll(hidden)) {
    e.append(text.slice(from, m.index), el("span.code", {}, code(m[0])));
    from = m.index + m[0].length;
  }
  e.append(text.slice(from));
  return e;
}

export const visible = (text) => text.replace(hidden, code);
const code = (c) => "U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");

export function count(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  if (n < 10000) return Math.round(n).toLocaleString("en");
  for (const u of ["k", "M", "G", "T"]) {
    n /= 1000;
    if (n < 999.5 || u === "T") return digits(n) + " " + u;
  }
}

export function rate(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  if (n === 0) return "0";
  return n < 0.1 ? "<0.1" : n < 100 ? digits(n) : count(n);
}

const digits = (n) => (n < 9.95 ? n.toFixed(1) : Math.round(n).toString());

export function share(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  return (n >= 0.99995 || n === 0 ? (n * 100).toFixed(0) : n >= 0.9995 ? (n * 100).toFixed(2) : (n * 100).toFixed(1)) + " %";
}

// micros writes a duration that is given in µs.
export function micros(us) {
  if (us === null || us === undefined) return "–";
  for (const [unit, name] of [[1e6, "s"], [1e3, "ms"], [1, "µs"]]) {
    if (us >= unit * 0.9995) return three(us / unit) + " " + name;
  }
  return Math.round(us * 1000) + " ns";
}
const three = (n) => (n < 9.995 ? n.toFixed(2) : n < 99.95 ? n.toFixed(1) : n.toFixed(0));
export const nanos = (ns) => micros(ns / 1000);

// seconds writes an age or a life.
export function seconds(s) {
  if (s < 1) return micros(s * 1e6);
  if (s < 90) return (s < 10 ? s.toFixed(1) : s.toFixed(0)) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  if (s < 129600) return (s / 3600).toFixed(1) + " h";
  return (s / 86400).toFixed(1) + " days";
}

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
