// Reactions: taps are collected and sent together; what flies up are the room's sums, everybody's.

import { h } from "/demo/dom.js";
import { icon } from "/demo/icons.js";

// Taps of one button within this time are one command: a connection may say ten things a second.
const COLLECT_MS = 500;
const TAPS_MAX = 50;
const FLYING_PER_SUM = 6;
const FLYING_MAX = 40;

export class Reactions {
  /** `send(key, n)` says `n` taps in the room. */
  constructor(send) {
    this.send = send;
    this.bar = h("div", { class: "reactions", role: "group", "aria-label": "Reactions", hidden: true });
    this.sky = h("div", { class: "sky", "aria-hidden": "true" });
    this.taps = new Map();
    this.counts = new Map();
    this.timer = 0;
  }

  /** The names that the room knows. */
  offer(names) {
    this.bar.hidden = names.length === 0;
    if (names.join() === [...this.counts.keys()].join()) return;
    this.counts = new Map(names.map((name) => [name, h("span", { class: "count" })]));
    const buttons = names.map((name) =>
      h("button", { type: "button", class: `react ${name}`, "aria-label": `React: ${name}`, title: name, onclick: () => this.#tap(name) }, icon(name) ?? name, this.counts.get(name)),
    );
    this.bar.replaceChildren(...buttons);
  }

  #tap(name) {
    this.taps.set(name, Math.min(TAPS_MAX, (this.taps.get(name) ?? 0) + 1));
    this.timer ||= setTimeout(() => this.#flush(), COLLECT_MS);
  }

  #flush() {
    this.timer = 0;
    for (const [name, taps] of this.taps) this.send(name, taps);
    this.taps.clear();
  }

  /** The sums of one window. */
  show({ WindowMs: _, ...sums }) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const [name, sum] of Object.entries(sums)) {
      const count = this.counts.get(name);
      if (!count) continue;
      const total = Number(count.dataset.total ?? 0) + Number(sum);
      count.dataset.total = total;
      count.textContent = total.toLocaleString("en");
      if (!still) for (let i = 0; i < Math.min(Number(sum), FLYING_PER_SUM); i++) this.#fly(name);
    }
  }

  #fly(name) {
    if (this.sky.childElementCount >= FLYING_MAX) return;
    const flying = h("span", { class: `flying ${name}`, animationend: () => flying.remove() }, icon(name) ?? name);
    flying.style.setProperty("--x", `${Math.round(Math.random() * 4 * 16)}px`);
    flying.style.setProperty("--sway", `${Math.round(Math.random() * 24 - 12)}px`);
    flying.style.setProperty("--late", `${Math.round(Math.random() * 350)}ms`);
    this.sky.append(flying);
  }
}
