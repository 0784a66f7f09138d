// The page: takes figures from the stream and shows those of one cache.
import { Chart, spark } from "./chart.js";
import { $, count, el, foreign, micros, nanos, rate, seconds, share, visible } from "./text.js";
import { Actions } from "./actions.js";

const maxPoints = 300;
const state = { caches: new Map(), order: [], chosen: null, span: "window", unit: "share", operation: "get", paused: false, interval: 1, page: null };

// --- the stream

let source, retry = 1000;
function connect() {
  source?.close();
  source = new EventSource("events");
  source.addEventListener("all", (e) => { retry = 1000; take(JSON.parse(e.data), true); });
  source.addEventListener("tick", (e) => take(JSON.parse(e.data), false));
  source.onopen = () => live(state.paused ? "paused" : "live");
  source.onerror = () => {
    live("lost");
    // A browser tries again by itself unless the answer was no stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, (retry = Math.min(retry * 2, 15000)));
  };
}

function live(what) {
  const b = $("live");
  b.dataset.state = what;
  b.lastChild.textContent = { live: "Live", paused: "Paused", lost: "No answer", connecting: "Connecting" }[what];
  b.setAttribute("aria-label", what === "paused" ? "Go on" : "Pause");
}

function take(page, all) {
  state.interval = page.interval;
  state.page = page;
  const seen = new Set();
  for (const c of page.caches) {
    const known = state.caches.get(c.id);
    if (known && !all) {
      const last = known.points.at(-1)?.t ?? 0;
      c.points = known.points.concat(c.points.filter((p) => p.t > last)).slice(-maxPoints);
    }
    state.caches.set(c.id, c);
    seen.add(c.id);
  }
  for (const id of state.caches.keys()) if (!seen.has(id)) state.caches.delete(id);
  state.order = page.caches.map((c) => c.id);
  if (!state.paused) render();
}

// --- what follows from the figures

// recent are the points of the last ten seconds.
const recent = (c) => c.points.filter((p) => p.t > c.points.at(-1).t - 10000);
const sum = (points, key) => points.reduce((n, p) => n + p[key], 0);
const perSecond = (points, key) => {
  const dt = sum(points, "dt");
  return dt ? sum(points, key) / dt : null;
};

function notes(c) {
  const out = [], now = recent(c), t = c.total, over = Math.round(sum(now, "dt")) || 1;
  const add = (level, text) => out.push({ level, text });
  if (t.Breaker === "open" || t.Breaker === "half-open") add("bad", "The circuit to Redis is open: Redis is left alone, and tried again soon. Reads load from the source.");
  const errors = sum(now, "remoteErrors");
  if (redisDown(c)) add("bad", `Redis does not answer. Failures in the last ${over} s: ${count(errors)}. Reads that can load go on.`);
  else if (errors) add("warn", `Redis answers, but not always. Failures in the last ${over} s: ${count(errors)}.`);
  if (deaf(c)) add("warn", "Other processes can't be heard. The local tier is not used until they can.");
  const failed = sum(now, "loadErrors");
  if (failed) add("warn", `The source fails at times. Keys that could not be loaded in the last ${over} s: ${count(failed)} of ${count(sum(now, "loads"))}.`);
  if (t.DeadLetters) add("warn", `Writes that the source has refused for good are kept as dead letters: ${count(t.DeadLetters)}.`);
  for (const o of state.page.outboxes) if (o.name === c.name) {
    if (o.lag >= behind) add("warn", `The outbox is behind: a committed change has waited for its invalidation for ${seconds(o.lag)}.`);
    if (o.unavailable) add("warn", "Rows of the outbox wait because Redis does not acknowledge them.");
    if (o.deadLetters) add("warn", `Rows of the outbox were refused too often and are dead letters: ${count(o.deadLetters)}.`);
  }
  return out;
}

// behind is the lag of an outbox, in seconds, from which on it is a matter of concern.
const behind = 10;

// redisDown: of what Redis was asked lately, at least half failed.
const redisDown = (c) => {
  const now = recent(c), errors = sum(now, "remoteErrors");
  return errors > 0 && errors * 2 >= sum(now, "remoteOps");
};

// deaf: a cache begins to listen when it is first used.
const deaf = (c) => c.total.Listener === "down" && (c.total.Requests > 0 || c.total.Remote.count > 0);

const worst = (list) => (list.some((n) => n.level === "bad") ? "bad" : list.length ? "warn" : "ok");

// --- drawing

const charts = {};
function render() {
  const p = state.page;
  $("title").replaceChildren(foreign(p.title));
  document.title = "Caches – " + visible(p.title);
  $("empty").hidden = p.caches.length + p.outboxes.length > 0;
  $("detail").hidden = p.caches.length === 0;
  renderList();
  renderOutboxes(p.outboxes);
  const c = state.caches.get(state.chosen);
  if (!c) return;
  renderHead(c);
  renderCharts(c);
  renderPanels(c);
  actions.show(p, c);
}

function renderList() {
  const nav = $("list");
  if (!state.caches.has(state.chosen)) {
    const wanted = decodeURIComponent(location.hash.slice(1));
    state.chosen = state.order.find((id) => state.caches.get(id).name === wanted) ?? state.order[0] ?? null;
  }
  nav.hidden = state.order.length < 2;
  if (nav.hidden) return nav.replaceChildren();
  // The buttons stay, so that a click that takes a while hits what it was meant for.
  const known = new Map([...nav.children].map((b) => [Number(b.dataset.id), b]));
  const buttons = state.order.map((id) => known.get(id) ?? el("button", { type: "button", "data-id": id }));
  if (buttons.length !== nav.children.length || buttons.some((b, i) => b !== nav.children[i])) nav.replaceChildren(...buttons);
  for (const b of buttons) {
    const id = Number(b.dataset.id), c = state.caches.get(id);
    const asked = perSecond(recent(c).map((p) => ({ dt: p.dt, n: p.local + p.remote + p.miss })), "n");
    b.dataset.level = worst(notes(c));
    b.setAttribute("aria-current", id === state.chosen);
    b.replaceChildren(
      el("span.who", {}, el("i"), foreign(c.name)),
      el("span.rate", {}, c[state.span].Requests ? share(c[state.span].HitRate) : "–"),
      el("span.sub", {}, asked === null ? "hit rate" : rate(asked) + " requests/s"),
      spark(c.points.slice(-60).map((p) => (p.dt ? (p.local + p.remote + p.miss) / p.dt : null)), "s-local"));
  }
}

function renderOutboxes(list) {
  $("outbox").hidden = !list.length;
  $("outboxes").tBodies[0].replaceChildren(...list.map((o) => {
    const cell = (text, level) => el("td", { "data-level": level || undefined }, text);
    // What is not known here is known to the relay that is at work.
    const known = (text, level) => (o.held ? cell(text, level) : cell("–"));
    return el(o.held ? "tr" : "tr.none", {}, el("th", { scope: "row" }, foreign(o.name)),
      o.held ? cell(o.unavailable ? "Redis does not acknowledge" : "at work", o.unavailable ? "bad" : "ok") : cell(o.databaseErrors ? "not at work, database errors: " + count(o.databaseErrors) : "another process, or none"),
      known(o.lag ? seconds(o.lag) : "none", o.lag >= behind ? "bad" : ""), known(count(o.backlog)), known(count(o.deadLetters), o.deadLetters ? "bad" : ""),
      cell(count(o.applied)), cell(count(o.replaced)), cell(o.applied ? seconds(o.meanWait) : "–"));
  }));
}

function renderHead(c) {
  $("name").replaceChildren(foreign(c.name, "span"));
  const list = notes(c), t = c.total;
  const pill = (level, text) => el("span.pill", { "data-level": level }, text);
  const pills = [];
  if (t.Breaker !== "closed") pills.push(pill("bad", "Circuit " + t.Breaker));
  else if (redisDown(c)) pills.push(pill("bad", "Redis is down"));
  else if (sum(recent(c), "remoteErrors")) pills.push(pill("warn", "Redis fails at times"));
  else if (t.Remote.count) pills.push(pill("ok", "Redis answers"));
  if (t.Listener === "up") pills.push(pill("ok", "Notifications heard"));
  if (deaf(c)) pills.push(pill("warn", "Notifications not heard"));
  if (t.DeadLetters) pills.push(pill("warn", count(t.DeadLetters) + " dead letters"));
  const late = state.page.outboxes.find((o) => o.name === c.name && o.lag >= behind);
  if (late) pills.push(pill("warn", "Outbox " + seconds(late.lag) + " behind"));
  if (!pills.length) pills.push(pill("", t.Requests ? "Local only" : "Not used yet"));
  $("pills").replaceChildren(...pills);
  $("notes").replaceChildren(...list.map((n) => el("p.note", { "data-level": n.level }, n.text)));

  const f = c[state.span], now = recent(c), window = state.span === "window";
  const per = (n) => (c.windowSeconds > 0 ? n / c.windowSeconds : null);
  const tile = (name, value, unit, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, unit ? el("small", {}, unit) : null), el("dd.more", {}, more));
  const hits = f.LocalHits + f.RemoteHits, asked = f.Requests;
  $("tiles").replaceChildren(
    tile("Hit rate", asked ? share(f.HitRate) : "–", "", asked ? `${share(f.LocalHits / asked)} local, ${share(f.RemoteHits / asked)} Redis` : "nothing was asked for"),
    window ? tile("Requests", rate(per(asked)), "/s", count(asked - hits) + " misses of " + count(asked)) : tile("Requests", count(asked), "", count(asked - hits) + " misses"),
    window ? tile("Loads", rate(per(f.Loads)), "/s", f.LoadErrors ? count(f.LoadErrors) + " failed" : "none failed") : tile("Loads", count(f.Loads), "", f.LoadErrors ? count(f.LoadErrors) + " failed" : "none failed"),
    tile("Get, p99", f.Get.count ? micros(f.Get.p99_ns / 1000) : "–", "", f.Get.count ? "median " + nanos(f.Get.p50_ns) : "no calls"),
    tile("Local entries", count(t.LocalEntries), "", count(f.Evictions) + (f.Evictions === 1 ? " eviction" : " evictions") + (f.OutageHits ? ", " + count(f.OutageHits) + " hits without Redis" : "")));
  const label = window ? (c.windowSeconds >= 1 ? "last " + Math.round(c.windowSeconds) + " s" : "from now on") : "since start";
  for (const e of document.querySelectorAll(".spanned")) e.textContent = label;
}

const answered = (key) => (p) => {
  const n = p.local + p.remote + p.miss;
  return n ? p[key] / n : null;
};
const each = (key) => (p) => p[key] / p.dt;
const quantile = (i) => (p) => p.latency[state.operation]?.[i] ?? null;
const level = (key) => (p) => p[key];

const looks = {
  answers: () => ({
    stacked: true, max: state.unit === "share" ? 1 : undefined, format: state.unit === "share" ? (v) => share(v).replace(".0", "") : rate, least: 1, nothing: "No requests yet",
    series: [["Local", "s-local", "local"], ["Redis", "s-remote", "remote"], ["Miss", "s-miss", "miss"]].map(([name, cls, key]) => ({ name, cls, of: state.unit === "share" ? answered(key) : each(key) })),
  }),
  latency: () => ({
    log: true, format: micros, nothing: "No calls yet",
    series: [{ name: "p50", cls: "s-local", of: quantile(0) }, { name: "p95", cls: "s-remote", of: quantile(1) }, { name: "p99", cls: "s-miss", of: quantile(2) }],
  }),
  loads: () => ({
    format: rate, least: 1,
    series: [{ name: "Loads", cls: "s-miss", of: each("loads") }, { name: "Stale answers", cls: "s-stale", of: each("stale") }, { name: "Failed loads", cls: "s-bad", of: each("loadErrors") }],
  }),
  local: () => ({ format: count, least: 4, series: [{ name: "Entries", cls: "s-local", of: level("entries") }] }),
  errors: () => ({ format: rate, least: 1, series: [{ name: "Evictions", cls: "s-local", of: each("evictions") }, { name: "Failures", cls: "s-bad", of: each("remoteErrors") }] }),
  backlog: () => ({ format: count, least: 4, series: [{ name: "Backlog", cls: "s-remote", of: level("backlog") }] }),
};

function renderCharts(c) {
  const t = c.total;
  $("behind").hidden = !(t.Backlog || t.DeadLetters || t.Applied || t.ApplyErrors || t.Buried || c.points.some((p) => p.backlog));
  for (const [name, look] of Object.entries(looks)) {
    if (name === "backlog" && $("behind").hidden) continue;
    charts[name] ??= new Chart($(name), look());
    charts[name].show(c.points, maxPoints * state.interval * 1000);
  }
}

function renderPanels(c) {
  const f = c[state.span], t = c.total;
  const row = (name, h) => {
    const cells = h.count ? [count(h.count), nanos(h.mean_ns), nanos(h.p50_ns), nanos(h.p95_ns), nanos(h.p99_ns)] : ["0", "–", "–", "–", "–"];
    const tr = el(h.count ? "tr" : "tr.none", {}, el("th", { scope: "row" }, name));
    tr.append(...cells.map((x) => el("td", {}, x)));
    return tr;
  };
  $("quantiles").tBodies[0].replaceChildren(row("Get", f.Get), row("Get many", f.GetMany), row("Set", f.Set), row("Delete", f.Delete), row("Load", f.Load), row("Redis, each round trip", f.Remote));

  bars($("misses"), [["Nothing there", f.MissAbsent], ["Over or invalidated", f.MissExpired], ["Redis not reached", f.MissUnavailable], ["Other version or type", f.MissIncompatible], ["Not ours", f.MissForeign], ["Damaged", f.MissUndecodable]]
    .map(([name, n]) => [el("span", {}, name), n]).filter(([, n]) => n), "No misses");
  bars($("tags"), (c.topTags ?? []).map((x) => [foreign(x.Tag), x.Count]), "None yet");
  bars($("keys"), (c.hotKeys ?? []).map((x, i) => [state.page.keys ? foreign(x.Key) : el("span", {}, `Key ${i + 1}`), x.Count]), "None yet");
  $("unnamed").hidden = state.page.keys || !c.hotKeys?.length;

  facts($("source"), [["Keys loaded", f.Loads], ["… ahead or behind a stale value", f.Refreshes], ["Shared with another caller", f.Coalesced + f.Awaited], ["Not found", f.NotFound], ["Failed", f.LoadErrors, "warn"], ["Covered by a stale value", f.StaleCovers], ["Answered by the default value", f.Defaults, "warn"], ["Lost against a newer write", f.Outdated]]);
  facts($("others"), [["Invalidations sent", f.InvalidationsSent], ["Invalidations received", f.InvalidationsReceived], ["Local tier dropped whole", f.Flushes, "warn"], ["Keys written", f.Sets], ["Keys deleted", f.Deletes], ["Lives renewed", f.Touched], ["Writes that failed", f.WriteErrors, "bad"], ["Redis operations failed", f.RemoteErrors, "bad"], ["Of those, for good", f.Misfits, "bad"]]);
  facts($("queue"), [["Waiting", t.Backlog], ["Oldest", t.Backlog ? seconds(t.BacklogAge / 1e9) : "–"], ["Brought to the source", f.Applied], ["Attempts failed", f.ApplyErrors, "warn"], ["Dead letters", t.DeadLetters, "bad"]]);
}

function bars(host, list, nothing) {
  const max = Math.max(...list.map(([, n]) => n), 1);
  host.replaceChildren(...list.map(([name, n]) => el("li", {}, bar(n / max), name, el("b", {}, count(n)))));
  if (!list.length) host.append(el("li.nothing", {}, nothing));
}

function bar(part) {
  const i = el("i");
  i.style.width = part * 100 + "%";
  return i;
}

function facts(host, list) {
  host.replaceChildren(...list.map(([name, n, level]) => el("div", {}, el("dt", {}, name), el("dd", { "data-level": n ? level : undefined }, typeof n === "number" ? count(n) : n))));
}

// --- what the reader does

for (const b of document.querySelectorAll("[data-span]")) b.addEventListener("click", () => { state.span = b.dataset.span; press(b); if (state.page) render(); });
for (const b of document.querySelectorAll("[data-unit]")) b.addEventListener("click", () => { state.unit = b.dataset.unit; press(b); charts.answers?.set(looks.answers()); });
$("operation").addEventListener("change", (e) => { state.operation = e.target.value; charts.latency?.set(looks.latency()); });
$("list").addEventListener("click", (e) => {
  const b = e.target.closest("button");
  if (!b) return;
  state.chosen = Number(b.dataset.id);
  history.replaceState(null, "", "#" + encodeURIComponent(state.caches.get(state.chosen).name));
  render();
});
$("live").addEventListener("click", () => {
  state.paused = !state.paused;
  live(state.paused ? "paused" : source.readyState === EventSource.OPEN ? "live" : "lost");
  if (!state.paused && state.page) render();
});
function press(b) {
  for (const other of b.parentElement.children) other.setAttribute("aria-pressed", other === b);
}

const actions = new Actions();
connect();
