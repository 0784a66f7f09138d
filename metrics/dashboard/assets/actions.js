// What an operator can do with a cache.
import { $, el, foreign, seconds, visible } from "./text.js";

const verbs = { inspect: "Inspect", key: "Invalidate", pattern: "Invalidate", tag: "Invalidate", clear: "Clear" };

export class Actions {
  constructor() {
    this.kind().addEventListener("change", () => this.changed());
    $("act").addEventListener("submit", (e) => {
      e.preventDefault();
      this.run();
    });
    this.changed();
  }

  kind() { return $("kind"); }

  show(page, cache) {
    this.page = page;
    if (this.cache?.id !== cache.id) $("outcome").replaceChildren();
    this.cache = cache;
    const on = page.actions && cache.actions;
    if ($("actions").hidden === on) $("actions").hidden = !on;
    if ($("target").textContent !== cache.name) $("target").replaceChildren(foreign(cache.name, "span"));
  }

  changed() {
    const what = this.kind().value, option = this.kind().selectedOptions[0];
    $("textfield").hidden = what === "clear";
    $("textlabel").textContent = option.dataset.label ?? "";
    $("text").placeholder = option.dataset.hint ?? "";
    $("text").required = what === "pattern" || what === "tag";
    $("go").textContent = verbs[what];
    $("go").toggleAttribute("data-danger", what === "clear");
    $("outcome").replaceChildren();
  }

  async run() {
    const action = this.kind().value, text = action === "clear" ? "" : $("text").value, cache = this.cache;
    if (action === "pattern" || action === "clear") {
      const every = action === "clear" || /^\*+$/.test(text);
      if (!(await this.sure(every ? `Clear ${visible(cache.name)}?` : `Invalidate ${visible(text)}?`,
        every ? "Everything in this cache becomes invalid, in all processes, and is loaded anew when it is read." : "Every key that matches becomes invalid, in all processes.", verbs[action]))) return;
    }
    $("go").disabled = true;
    try {
      this.tell(await this.post({ cache: cache.id, action, text }));
    } catch (e) {
      this.tell({ error: "The program does not answer." });
    } finally {
      $("go").disabled = false;
    }
  }

  async post(body) {
    const r = await fetch("action", {
      method: "POST", credentials: "same-origin", body: JSON.stringify(body),
      headers: { "Content-Type": "application/json", "X-Dashboard-Token": this.page.token },
    });
    return r.json();
  }

  sure(question, consequence, verb) {
    $("question").textContent = question;
    $("consequence").textContent = consequence;
    $("yes").textContent = verb;
    const d = $("sure");
    d.returnValue = "no";
    d.showModal();
    // A close event comes later than the end: that of one question may come when the next is open.
    const asked = (this.asked = {});
    return new Promise((done) => {
      const closed = () => {
        if (this.asked === asked && d.open) return;
        d.removeEventListener("close", closed);
        done(this.asked === asked && d.returnValue === "yes");
      };
      d.addEventListener("close", closed);
    });
  }

  tell(answer) {
    if (answer.error) return $("outcome").replaceChildren(el("p.note", { "data-level": "bad", role: "alert" }, foreign(answer.error, "span")));
    if (!answer.entry) return $("outcome").replaceChildren(el("p.note", { "data-level": "ok" }, answer.done));
    const e = answer.entry, list = el("dl.facts");
    const fact = (name, ...values) => list.append(el("div", {}, el("dt", {}, name), el("dd", {}, ...values)));
    fact("In Redis", foreign(e.redisKey));
    fact("Tier", { local: "local", remote: "Redis" }[e.tier] ?? e.tier);
    fact("Age", seconds(e.age));
    fact("Life left", e.stale ? "over: stale" : e.ttl ? seconds(e.ttl) : "no end");
    if (e.tags?.length) fact("Tags", ...e.tags.map((t) => foreign(t, "bdi.chip")));
    if (e.absent) fact("Answer", "there is no such thing");
    else fact("Type", foreign(e.type));
    const box = el("div.entry", {}, list);
    if (!e.absent && e.value === null) fact("Value", "hidden");
    if (e.value !== null) {
      const pre = el("pre", { dir: "auto" });
      pre.textContent = e.value + (e.cut ? "…" : "");
      box.append(pre);
    }
    $("outcome").replaceChildren(box);
  }
}
