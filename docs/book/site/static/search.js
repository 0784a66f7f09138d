// The search: the index comes from the server once, and everything else happens here.
"use strict";
(() => {
  const query = document.getElementById("query");
  const results = document.getElementById("results");
  const list = results.querySelector("ol");
  const count = document.getElementById("count");
  const most = 12;
  let index, loading;

  // On a wide screen the contents stand open; on a narrow one they open at a tap.
  for (const [id, width] of [["book", "(min-width: 60rem)"], ["here", "(min-width: 78rem)"]]) {
    const part = document.getElementById(id);
    if (!part) continue;
    const wide = matchMedia(width);
    const follow = () => { part.open = wide.matches; };
    wide.addEventListener("change", follow);
    follow();
    part.addEventListener("click", (e) => { if (e.target.closest("a") && !wide.matches) part.open = false; });
  }

  function load() {
    loading ??= fetch("/search.json").then((r) => {
      if (!r.ok) throw new Error(r.status);
      return r.json();
    }).then((json) => { index = json; }).catch((e) => { loading = undefined; throw e; });
    return loading;
  }

  // begins is the number of the first word that is not less than the prefix.
  function begins(prefix) {
    let from = 0, to = index.words.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (index.words[middle] < prefix) from = middle + 1; else to = middle;
    }
    return from;
  }

  // find returns the sections that have all words, the best first.
  function find(words) {
    let all;
    for (const word of words) {
      const found = new Map();
      for (let i = begins(word); i < index.words.length && index.words[i].startsWith(word); i++) {
        const share = index.words[i] === word ? 1 : word.length / index.words[i].length / 2;
        const list = index.found[i];
        for (let j = 0; j < list.length; j += 2) {
          found.set(list[j], Math.max(found.get(list[j]) ?? 0, list[j + 1] * share));
        }
      }
      if (!all) { all = found; continue; }
      for (const [n, weight] of all) {
        if (found.has(n)) all.set(n, weight + found.get(n)); else all.delete(n);
      }
    }
    // Words that stand side by side, as they were typed, count for more.
    const phrase = words.length > 1 && new RegExp(words.join("[^\\p{L}\\p{N}]+"), "iu");
    for (const [n, weight] of phrase ? all : []) {
      const s = index.sections[n];
      if (phrase.test(s.t)) all.set(n, weight * 2); else if (phrase.test(s.x)) all.set(n, weight * 1.4);
    }
    return [...(all ?? [])].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([n]) => index.sections[n]);
  }

  // excerpt is the text around the first of the words, with all of them marked.
  function excerpt(text, words) {
    const escaped = words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const at = text.search(new RegExp(escaped.join("|"), "iu"));
    const from = at > 60 ? text.indexOf(" ", at - 60) + 1 : 0;
    const part = (from > 0 ? "… " : "") + text.slice(from, from + 160) + (text.length > from + 160 ? " …" : "");
    const p = document.createElement("p");
    for (const piece of part.split(new RegExp(`(${escaped.join("|")})`, "iu"))) {
      if (words.includes(piece.toLowerCase())) {
        const mark = document.createElement("mark");
        mark.textContent = piece;
        p.append(mark);
      } else p.append(piece);
    }
    return p;
  }

  async function search() {
    const words = query.value.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
    if (!words.length) { results.hidden = true; return; }
    try { await load(); } catch {
      list.replaceChildren();
      count.textContent = "The index can't be loaded.";
      results.hidden = false;
      return;
    }
    if (words.join() !== (query.value.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join()) return; // typed on meanwhile
    const found = find(words);
    count.textContent = found.length === 0 ? "Nothing found" : found.length === 1 ? "1 section" :
      found.length > most ? `${found.length} sections, the best ${most}` : `${found.length} sections`;
    list.replaceChildren(...found.slice(0, most).map((s) => {
      const item = document.createElement("li"), link = document.createElement("a"), title = document.createElement("strong");
      link.href = s.u;
      title.textContent = s.t === s.p ? s.t : `${s.p}: ${s.t}`;
      link.append(title, excerpt(s.x, words));
      item.append(link);
      return item;
    }));
    results.hidden = false;
  }

  const close = () => { results.hidden = true; };
  query.addEventListener("focus", () => { load().catch(() => {}); if (query.value) search(); });
  query.addEventListener("input", search);
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && document.activeElement !== query && !e.ctrlKey && !e.metaKey && !e.altKey) {
      e.preventDefault();
      query.focus();
      query.select();
    }
    if (results.hidden) return;
    const links = [...list.querySelectorAll("a")], at = links.indexOf(document.activeElement);
    if (e.key === "Escape") { close(); query.focus(); }
    else if (e.key === "ArrowDown" && links.length) { e.preventDefault(); links[Math.min(at + 1, links.length - 1)].focus(); }
    else if (e.key === "ArrowUp" && at >= 0) { e.preventDefault(); (at ? links[at - 1] : query).focus(); }
    else if (e.key === "Enter" && document.activeElement === query && links.length) { e.preventDefault(); links[0].click(); }
  });
  document.addEventListener("click", (e) => {
    if (!e.target.closest(".search") || e.target.closest("#results a")) close();
  });
})();
