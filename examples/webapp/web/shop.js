// Shows the shelves, and looks again twice a second.
const shelves = ["tea", "coffee"];
const rows = new Map();

function el(tag, attrs, ...children) {
  const e = document.createElement(tag);
  Object.assign(e, attrs);
  e.append(...children);
  return e;
}

const euro = (cents) => "€ " + (cents / 100).toFixed(2);
const took = (ns) => (ns < 1e3 ? ns + " ns" : ns < 1e6 ? (ns / 1e3).toFixed(0) + " µs" : (ns / 1e6).toFixed(1) + " ms");
const tier = { local: "memory", remote: "Redis", source: "database" };

async function post(path, body) {
  await fetch(path, { method: "POST", body: new URLSearchParams(body) }).then(check, failed);
  await look();
}

function check(r) {
  document.getElementById("trouble").hidden = r.ok;
  if (!r.ok) document.getElementById("trouble").textContent = r.status + " " + r.statusText;
  return r;
}
function failed() {
  document.getElementById("trouble").hidden = false;
  document.getElementById("trouble").textContent = "The instance does not answer.";
}

function show(shelf, p) {
  let row = rows.get(p.id);
  if (!row) {
    const change = (cents) => el("button", { onclick: () => post(`/api/products/${p.id}/reprice`, { cents }), ariaLabel: `${p.name}: ${cents > 0 ? "dearer" : "cheaper"}` }, cents > 0 ? "+" : "−");
    row = { price: el("b"), from: el("i"), took: document.createTextNode("") };
    row.e = el("div", { className: "row", id: "product-" + p.id }, p.name, el("span", {}, row.from, row.took), row.price, el("div", {}, change(-10), change(10)));
    rows.set(p.id, row);
    shelf.append(row.e);
  }
  if (row.price.textContent && row.price.textContent !== euro(p.cents)) {
    row.price.className = "";
    void row.price.offsetWidth; // so that it begins anew
    row.price.className = "new";
  }
  row.price.textContent = euro(p.cents);
  row.from.textContent = tier[p.tier] ?? p.tier;
  row.from.className = p.tier;
  row.took.textContent = " " + took(p.took);
}

const sections = shelves.map((name) => {
  const s = el("section", { id: name }, el("div", {}, el("h2", {}, name), el("button", { onclick: () => post(`/api/shelves/${name}/raise`, { percent: 5 }) }, "All + 5 %")));
  document.getElementById("shelves").append(s);
  return s;
});

async function look() {
  for (const [i, name] of shelves.entries()) {
    try {
      const r = check(await fetch("/api/shelves/" + name));
      if (r.ok) for (const p of await r.json()) show(sections[i], p);
    } catch {
      failed();
    }
  }
}

(async () => {
  for (;;) {
    await look();
    await new Promise((done) => setTimeout(done, 500));
  }
})();
