// The line to say something: its length, and what keeps one from writing, in words and seconds.

import { h } from "/demo/dom.js";

// Of the room's longest message, from where on the characters are counted.
const COUNTED_FROM = 0.8;
const TICK_MS = 250;

/** What the server says when it holds a message back, and what is shown of it. Seconds are counted down. */
const HOLDS = [
  [/^slow mode/, "slow", (left) => `Slow mode: you may write again in ${left} s.`],
  [/^timed out/, "timeout", (left) => `You are timed out: ${left} s left. You can read on, and a moderator can lift it.`],
  [/^you may write in/, "age", (left) => `New here: you may write in ${left} s.`],
  [/^banned$/, "timeout", () => "You are timed out until a moderator lifts it. You can read on."],
];

const lengthOf = (text) => [...text].length;

export class Composer {
  /** `say(text)`; `limits` is what the room takes. */
  constructor(say, limits) {
    this.limits = limits;
    this.counter = h("span", { class: "counter", hidden: true });
    this.send = h("button", { class: "primary send", disabled: true }, "Send");
    this.field = h("input", { name: "content", "aria-label": "Message", placeholder: "Say something", autocomplete: "off", disabled: true });
    // Read out once, when it comes; the seconds are for the eyes.
    this.why = h("p", { class: "hold", hidden: true });
    this.spoken = h("p", { class: "spoken", role: "status" });
    this.form = h("form", { class: "say" }, this.field, this.counter, this.send);
    this.element = h("div", { class: "composer" }, this.why, this.spoken, this.form);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      say(this.field.value);
    });
    this.field.addEventListener("input", () => this.count());
    this.connected = false;
    this.closed = "";
    this.hold = null;
  }

  setConnected(connected) {
    this.connected = connected;
    if (!connected) this.free();
    this.#show();
  }

  taken() {
    this.field.value = "";
    this.count();
  }

  /** Nothing that was written is lost; what was written since stands behind it. */
  giveBack(text) {
    this.field.value = [text, this.field.value].filter(Boolean).join(" ");
    this.count();
  }

  count() {
    const length = lengthOf(this.field.value);
    const most = this.limits.characters;
    this.counter.hidden = length < most * COUNTED_FROM;
    this.counter.textContent = `${length} of ${most}`;
    this.counter.classList.toggle("over", length > most);
  }

  /** Whether a refusal is one that passes with time, which is shown from now on. */
  held(message, seconds) {
    const found = HOLDS.find(([text]) => text.test(message));
    if (!found) return false;
    this.wait(found[1], seconds ?? Number(/(\d+) s/.exec(message)?.[1] ?? NaN));
    return true;
  }

  /** Holds back for some seconds: not a number if nobody knows how many. A longer wait of the same kind stays. */
  wait(kind, seconds) {
    const say = HOLDS.find((hold) => hold[1] === kind && (hold[2].length > 0) === Number.isFinite(seconds))?.[2];
    if (!say) return;
    const until = performance.now() + 1000 * seconds;
    this.hold = { kind, until, say };
    this.spoken.textContent = say(Math.ceil(seconds));
    clearInterval(this.ticking);
    this.ticking = setInterval(() => this.#show(), TICK_MS);
    this.#show();
  }

  /** A wait of this kind is over; without one: any. */
  free(kind) {
    if (!this.hold || (kind && this.hold.kind !== kind)) return;
    this.hold = null;
    clearInterval(this.ticking);
    this.spoken.textContent = "";
    this.#show();
  }

  /** Who may write is told with the room's state; empty: this viewer may. */
  close(why) {
    this.closed = why;
    this.#show();
  }

  #show() {
    const left = this.hold ? Math.ceil((this.hold.until - performance.now()) / 1000) : NaN;
    if (this.hold && left <= 0) return this.free();
    const text = this.connected ? this.closed || (this.hold?.say(left) ?? "") : "";
    this.why.hidden = text === "";
    if (this.why.textContent !== text) this.why.textContent = text;
    this.why.dataset.kind = this.closed ? "closed" : (this.hold?.kind ?? "");
    // A time-out can be lifted without a word: who tries finds out.
    const slow = this.hold?.kind === "slow" || this.hold?.kind === "age";
    this.field.disabled = !this.connected || this.closed !== "";
    this.send.disabled = this.field.disabled || slow;
    this.send.textContent = slow ? `${left} s` : "Send";
  }
}
