// The live messages of a room: a bounded list that never holds the browser up.

import { el } from "./dom.js";
import { clock, whole } from "./format.js";

/** Lines kept. */
const LINES_MAX = 300;
/** Frames that wait for the next picture of the screen; of more the oldest are left out. */
const WAITING_MAX = 100;

export class Tail {
  #act;
  #waiting = [];
  #leftOut = 0;
  #isPaused = false;
  #list = el("ol", { class: "messages", tabindex: "0", "aria-label": "Live messages" });
  #badge = el("span", { class: "badge" }, "connecting");
  #pause = el("button", { class: "small", "aria-pressed": "false", onclick: () => this.#toggle() }, "Pause");

  constructor(act) {
    this.#act = act;
    this.element = el("section", { class: "card tail" },
      el("div", { class: "title" }, el("h2", {}, "Live"), this.#badge, this.#pause),
      this.#list);
  }

  /** `connecting`, `live` or `ended`, and why. */
  state(state, reason = "") {
    this.#badge.textContent = reason ? `${state}: ${reason}` : state;
    this.#badge.className = `badge ${{ live: "good", ended: "warn" }[state] ?? ""}`;
  }

  hear(frame) {
    if (frame.Type === "EVENT" && frame.EventName === "aws:DELETE_MESSAGE") this.#strike(frame.Attributes?.MessageID);
    if (this.#isPaused) {
      this.#leftOut += 1;
      return;
    }
    if (this.#waiting.push(frame) === 1) requestAnimationFrame(() => this.#show());
    if (this.#waiting.length > WAITING_MAX) {
      this.#waiting.splice(1, 1);
      this.#leftOut += 1;
    }
  }

  #show() {
    const isAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    const lines = this.#waiting.splice(0).map((frame) => this.#line(frame));
    if (this.#leftOut) lines.unshift(el("li", { class: "muted" }, `${whole(this.#leftOut)} are left out.`));
    this.#leftOut = 0;
    this.#list.append(...lines);
    while (this.#list.children.length > LINES_MAX) this.#list.firstElementChild.remove();
    if (isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #line(frame) {
    const time = el("time", {}, clock(frame.SendTime));
    if (frame.Type !== "MESSAGE") {
      const attributes = Object.entries(frame.Attributes ?? {}).map(([name, value]) => `${name}=${value}`).join(" ");
      return el("li", { class: "event" }, time, el("span", { class: "content" }, el("b", {}, frame.EventName ?? frame.Type), ` ${attributes}`));
    }
    const user = frame.Sender?.UserId ?? "";
    const line = el("li", { class: "message" }, time,
      el("span", { class: "content" }, el("b", { class: "user" }, user), " ", el("span", { class: "text" }, frame.Content)),
      el("span", { class: "acts" },
        el("button", { class: "quiet small delete", "aria-label": `Delete the message of ${user}`, onclick: () => this.#act.remove(frame) }, "Delete"),
        el("button", { class: "quiet small kick", "aria-label": `Kick ${user}`, onclick: () => this.#act.kick(user) }, "Kick")));
    line.dataset.id = frame.Id;
    return line;
  }

  /** A deleted message stays, for the operator, but looks like one. */
  #strike(id) {
    for (const line of this.#list.children) {
      if (line.dataset.id !== id) continue;
      line.classList.add("deleted");
      line.querySelector(".delete")?.remove();
    }
  }

  #toggle() {
    this.#isPaused = !this.#isPaused;
    this.#pause.setAttribute("aria-pressed", this.#isPaused);
    this.#pause.textContent = this.#isPaused ? "Go on" : "Pause";
    if (!this.#isPaused) this.#show();
  }
}
