// The storm: a crowd by the server's own load generator, its sliders and its figures.

import { ask, byId } from "/demo/dom.js";

// Of the viewers' slider, which would be useless if its steps were even.
const VIEWERS = [10, 20, 50, 100, 200, 500, 1000, 2000];
// Messages a second that no room goes beyond.
const RATE_MAX = 100;
const POINTS_MAX = 60;
const CHART = { width: 240, height: 48 };

const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export class Storm {
  /** `key()` resolves to what the server wants to see before it begins one. */
  constructor(key) {
    this.key = key;
    // The storm that this page has begun; 0: none.
    this.id = 0;
    this.points = [];
    this.viewers = byId("storm-viewers");
    this.rate = byId("storm-rate");
    for (const slider of [this.viewers, this.rate]) {
      slider.addEventListener("input", () => this.#label());
      slider.addEventListener("change", () => this.isOn() && this.begin());
    }
    byId("storm-go").addEventListener("click", () => (this.isOn() ? this.end() : this.begin()));
    // Whoever leaves takes the crowd along.
    addEventListener("pagehide", () => this.isOn() && fetch(this.#stop, { keepalive: true }));
    this.#label();
  }

  get query() {
    return this.id ? `?storm=${this.id}` : "";
  }

  isOn() {
    return this.id !== 0;
  }

  async begin() {
    const viewers = VIEWERS[this.viewers.value];
    try {
      const key = await this.key();
      this.#stop = `/demo/storm?key=${key}&viewers=0`;
      const { id } = await ask(`/demo/storm?key=${key}&viewers=${viewers}&rate=${this.rate.value}`);
      this.id = id;
      this.points = [];
      this.#say("They come in, and talk in the room.");
    } catch (error) {
      this.#say(error.message);
    }
    this.#button();
  }

  async end() {
    this.id = 0;
    this.#button();
    try {
      await ask(this.#stop);
      this.#say("Stopped.");
    } catch (error) {
      this.#say(error.message);
    }
  }

  /** Takes what the server says of the room; `null` if it says nothing. */
  show(room) {
    if (!room) return this.#over("Server not reachable.");
    this.#bound(room);
    const { storm, ended } = room;
    if (ended?.id === this.id && this.isOn()) return this.#over(ended.why);
    const figures = storm?.figures;
    byId("storm-figures").classList.toggle("off", !figures);
    if (!figures) return;
    this.#figures(storm, figures);
  }

  #figures(storm, figures) {
    const ms = (value) => (value === null ? "–" : `${number(value, 1)} ms`);
    const shown = {
      "viewers-now": `${number(figures.viewers)} of ${number(figures.wanted)}`,
      messages: number(figures.messages_per_second, 1),
      deliveries: number(figures.deliveries_per_second),
      p50: ms(figures.p50_ms),
      p99: ms(figures.p99_ms),
      refused: number(figures.refused),
      delivered: number(figures.delivered),
    };
    for (const [name, text] of Object.entries(shown)) byId(`storm-${name}`).textContent = text;
    this.points = [...this.points, figures.deliveries_per_second].slice(-POINTS_MAX);
    this.#draw();
    if (figures.refusal) this.#say(`The rest does not come: ${figures.refusal}.`);
    byId("storm-left").textContent = `Ends by itself in ${storm.seconds_left} s.`;
  }

  /** The newest is at the right. */
  #draw() {
    const most = Math.max(1, ...this.points);
    const from = POINTS_MAX - this.points.length;
    const x = (i) => ((CHART.width * (from + i)) / (POINTS_MAX - 1)).toFixed(1);
    const y = (value) => (CHART.height - ((CHART.height - 4) * value) / most).toFixed(1);
    const line = this.points.map((value, i) => `${x(i)},${y(value)}`).join(" ");
    byId("storm-line").setAttribute("points", line);
    byId("storm-area").setAttribute("points", `${x(0)},${CHART.height} ${line} ${CHART.width},${CHART.height}`);
  }

  #over(why) {
    if (this.isOn()) this.#say(why);
    this.id = 0;
    byId("storm-figures").classList.add("off");
    this.#button();
  }

  /** A room takes so many messages a second, and no more would be heard. */
  #bound(room) {
    byId("storm-none").hidden = room.storms;
    byId("storm-hint").hidden = room.messages_per_second >= RATE_MAX;
    byId("storm-go").disabled = !room.storms;
    if (Number(this.rate.max) === room.messages_per_second) return;
    this.rate.max = room.messages_per_second;
    this.rate.value = Math.ceil(room.messages_per_second / 2);
    this.#label();
  }

  #label() {
    const viewers = number(VIEWERS[this.viewers.value]);
    byId("storm-viewers-value").textContent = viewers;
    this.viewers.setAttribute("aria-valuetext", `${viewers} viewers`);
    byId("storm-rate-value").textContent = `${this.rate.value} of ${this.rate.max}`;
    this.rate.setAttribute("aria-valuetext", `${this.rate.value} messages a second`);
  }

  #button() {
    byId("storm-go").textContent = this.isOn() ? "Stop" : "Start the storm";
    byId("storm-go").classList.toggle("primary", !this.isOn());
    if (!this.isOn()) byId("storm-left").textContent = "";
  }

  #say(text) {
    const note = byId("storm-note");
    if (note.textContent !== text) note.textContent = text;
  }

  #stop = "";
}
