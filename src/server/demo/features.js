// The panel with the switch: what IVS Chat lacks, on in this room or off, and polls.

import { ask, byId } from "/demo/dom.js";

const LATE_MS = 10_000;

export class Features {
  /** `key()` resolves to what the server wants to see before it changes anything. */
  constructor(key) {
    this.key = key;
    this.on = false;
    // Numbers of orders, and who waits for their outcome.
    this.waiting = new Map();
    this.poll = null;
    this.toggle = byId("features-switch");
    this.form = byId("poll-form");
    this.toggle.addEventListener("click", () => this.switch(!this.on));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#poll();
    });
    byId("poll-stop").addEventListener("click", () => this.#order(`/demo/poll?stop=demo-${this.poll}`, "The poll is closed."));
  }

  async switch(on) {
    this.toggle.disabled = true;
    const said = on ? "On. Join as a moderator to see the menus." : "Off: the room is IVS Chat's again.";
    await this.#order(`/demo/features?on=${Number(on)}`, said);
    this.toggle.disabled = false;
  }

  async #poll() {
    const { question, options, seconds } = this.form;
    const values = { question: question.value, options: options.value, seconds: seconds.value };
    const query = Object.entries(values).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    const number = await this.#order(`/demo/poll?${query.join("&")}`, "The poll is open, for everybody in the room.");
    if (number) this.poll = number;
    byId("poll-stop").hidden = !this.poll;
  }

  /** Gives an order; its number once it is done, nothing if it was refused. */
  async #order(path, done) {
    try {
      const { id } = await ask(`${path}&key=${await this.key()}`);
      const problem = await new Promise((resolve) => {
        const late = setTimeout(() => this.#answer(id, "The server does not answer."), LATE_MS);
        this.waiting.set(id, { resolve, late });
      });
      this.#say(problem ?? done);
      return problem ? undefined : id;
    } catch (error) {
      this.#say(error.message);
      return undefined;
    }
  }

  #answer(id, problem) {
    const waiter = this.waiting.get(id);
    clearTimeout(waiter?.late);
    this.waiting.delete(id);
    waiter?.resolve(problem);
  }

  /** Takes what the server says of the room; `null` if it says nothing. */
  show(room) {
    if (!room) return;
    const { id, problem } = room.answered ?? { id: 0 };
    // Orders are carried out one after the other.
    for (const number of [...this.waiting.keys()]) if (number <= id) this.#answer(number, number === id ? (problem ?? undefined) : undefined);
    const offered = Boolean(room.features);
    this.on = Boolean(room.features?.on);
    byId("features-none").hidden = offered;
    this.toggle.disabled = !offered;
    this.toggle.setAttribute("aria-checked", String(this.on));
    byId("toggle-features").classList.toggle("on", this.on);
    for (const field of this.form.elements) field.disabled = !this.on;
  }

  #say(text) {
    byId("features-note").textContent = text;
  }
}
