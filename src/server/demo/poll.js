// A poll, as a card above the messages: bars, a vote, and what came of it.

import { count, h } from "/demo/dom.js";
import { icon } from "/demo/icons.js";

// A poll whose end was not told by then has gone with its server.
const VOID_AFTER_MS = 5000;
const TICK_MS = 500;

export class Poll {
  /** `vote(option)`: 1 is the first. `closed(text)` tells the outcome once. */
  constructor(id, { vote, closed }) {
    this.id = id;
    this.closed = closed;
    this.vote = vote;
    this.chosen = 0;
    this.title = h("h2");
    this.options = h("div", { class: "options" });
    this.foot = h("p", { class: "foot faint" });
    this.away = h("button", { type: "button", class: "quiet away", "aria-label": "Close this poll", hidden: true, onclick: () => this.remove() }, icon("close"));
    this.element = h("section", { class: "poll" }, h("div", { class: "head" }, this.title, this.away), this.options, this.foot);
    this.rows = [];
    this.ticking = setInterval(() => this.#foot(), TICK_MS);
  }

  show({ State: state, Question: question, Options: options, Counts: counts, Total: total, EndsAt: endsAt }) {
    const wasOpen = this.state !== "closed";
    Object.assign(this, { state, total: Number(total), endsAt: Date.parse(endsAt), counts: JSON.parse(counts), texts: JSON.parse(options) });
    this.title.textContent = question;
    this.element.setAttribute("aria-label", `Poll: ${question}`);
    if (this.rows.length !== this.texts.length) this.#build();
    const most = Math.max(...this.counts);
    this.rows.forEach(({ row, share, check }, at) => {
      const part = this.total === 0 ? 0 : this.counts[at] / this.total;
      row.style.setProperty("--part", `${(100 * part).toFixed(1)}%`);
      share.textContent = `${count(this.counts[at], "vote")}, ${Math.round(100 * part)} %`;
      row.classList.toggle("won", state === "closed" && most > 0 && this.counts[at] === most);
      check.hidden = this.chosen !== at + 1;
    });
    this.#enable();
    this.#foot();
    if (state === "closed" && wasOpen) this.#end(most);
  }

  #build() {
    this.rows = this.texts.map((text, at) => {
      const share = h("span", { class: "share" });
      const check = h("span", { class: "check", hidden: true }, icon("check"));
      const row = h("button", { type: "button", class: "option", onclick: () => this.#choose(at + 1) }, h("span", { class: "text" }, text), check, share);
      return { row, share, check };
    });
    this.options.replaceChildren(...this.rows.map(({ row }) => row));
  }

  #choose(option) {
    this.chosen = option;
    this.rows.forEach(({ check }, at) => (check.hidden = at + 1 !== option));
    this.#enable();
    this.vote(option);
  }

  /** A vote was refused: somebody of this name has voted, or it did not reach the room. */
  refused(why) {
    this.chosen = why === "already voted" ? -1 : 0;
    for (const { check } of this.rows) check.hidden = true;
    this.#enable();
    this.#foot();
  }

  #enable() {
    const open = this.state === "open" && this.chosen === 0;
    for (const { row } of this.rows) row.disabled = !open;
    this.away.hidden = this.state === "open" && !this.isVoid();
  }

  isVoid() {
    return this.state === "open" && Date.now() > this.endsAt + VOID_AFTER_MS;
  }

  #foot() {
    const votes = count(this.total ?? 0, "vote");
    const left = Math.max(0, Math.ceil((this.endsAt - Date.now()) / 1000));
    const voted = { "-1": " · You have voted already.", 0: "" }[this.chosen] ?? " · You voted.";
    const ends = this.state === "closed" ? "closed" : this.isVoid() ? "void: its end was never told" : `${left} s left`;
    const text = `${votes} · ${ends}${this.state === "closed" ? "" : voted}`;
    if (this.foot.textContent !== text) this.foot.textContent = text;
    if (this.isVoid()) this.#enable();
  }

  #end(most) {
    const winners = this.texts.filter((_, at) => most > 0 && this.counts[at] === most);
    const outcome = winners.length === 0 ? "nobody voted" : `${winners.join(" and ")}, ${most} of ${count(this.total, "vote")}`;
    this.closed(`Poll closed. ${this.title.textContent} ${outcome}`);
  }

  remove() {
    clearInterval(this.ticking);
    this.element.remove();
  }
}
