// Lines over the last minutes, as a picture that scales with its place.

import { el, svg } from "./dom.js";
import { clock } from "./format.js";

const [WIDTH, HEIGHT, TOP, BOTTOM] = [600, 120, 10, 2];
// A server that has just started fills its charts with less.
const SPAN_MS_MIN = 60_000;

/** The least of 1, 2, 5, 10, … that is not below. */
function ceiling(number) {
  if (!(number > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= number * 0.999);
}

/** A chart of some columns of the samples: `lines` are `{name, key, tone}`, `show` writes a value. */
export class Chart {
  #lines;
  #show;
  #samples = [];
  #least;
  // Milliseconds from the left end to the right one.
  #span = SPAN_MS_MIN;

  /** `least`: what the top of the chart is at least. */
  constructor(title, lines, show, least = 1) {
    [this.#lines, this.#show, this.#least] = [lines, show, least];
    this.picture = svg("svg", {
      class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    });
    this.values = el("span", { class: "now" });
    this.top = el("span", { class: "top" });
    this.hint = el("output", { class: "hint", "aria-live": "off", hidden: true });
    const plot = el("div", { class: "plot-frame" }, this.picture, this.top, this.hint);
    this.begin = el("span");
    this.element = el("figure", { class: "card chart" },
      el("figcaption", {}, el("h2", {}, title), this.values),
      plot,
      el("div", { class: "axis", "aria-hidden": "true" }, this.begin, el("span", {}, "now")));
    this.title = title;
    plot.addEventListener("pointermove", (event) => this.#point(event, plot));
    plot.addEventListener("pointerleave", () => this.#unpoint());
  }

  /** Shows these samples, objects with `unixMs`. */
  draw(samples) {
    this.#samples = samples;
    const last = samples.at(-1);
    const keys = this.#lines.map((line) => line.key);
    const greatest = ceiling(Math.max(this.#least, ...samples.flatMap((sample) => keys.map((key) => sample[key] ?? 0))));
    const end = last?.unixMs ?? 0;
    this.#span = Math.max(SPAN_MS_MIN, end - (samples[0]?.unixMs ?? end));
    this.begin.textContent = `${Math.round(this.#span / 60_000)} min ago`;
    const x = (sample) => WIDTH * (1 - (end - sample.unixMs) / this.#span);
    const y = (value) => HEIGHT - BOTTOM - (value / greatest) * (HEIGHT - TOP - BOTTOM);
    const grid = [0, 0.5, 1].map((part) =>
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(part * greatest), y2: y(part * greatest) }));
    const drawn = this.#lines.flatMap(({ key, tone }, index) => {
      const runs = pieces(samples, key);
      const path = (run) => run.map((sample) => `${x(sample).toFixed(1)},${y(sample[key]).toFixed(1)}`).join("L");
      const area = index === 0 && runs.map((run) => svg("path", {
        class: `area ${tone}`,
        d: `M${x(run[0]).toFixed(1)},${y(0)}L${path(run)}L${x(run.at(-1)).toFixed(1)},${y(0)}Z`,
      }));
      // A lone sample is a dot.
      const dash = (run) => (run.length === 1 ? `h.01` : "");
      return [area, runs.map((run) => svg("path", { class: `line ${tone}`, d: `M${path(run)}${dash(run)}` }))];
    });
    this.marker = svg("line", { class: "marker", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.picture.replaceChildren(...grid, ...drawn.flat(2).filter(Boolean), this.marker);
    this.top.textContent = this.#show(greatest);
    this.values.replaceChildren(...this.#legend(last));
    const told = this.#lines.map(({ name, key }) => `${name || "now"} ${this.#show(last?.[key] ?? null)}`);
    this.picture.setAttribute("aria-label", `${this.title}: ${told.join(", ")}, at most ${this.#show(greatest)}`);
  }

  #legend(sample) {
    return this.#lines.map(({ name, key, tone }) =>
      el("span", { class: `value ${tone}` }, name && el("span", { class: "name" }, name),
        el("b", {}, this.#show(sample?.[key] ?? null))));
  }

  #point(event, plot) {
    const last = this.#samples.at(-1);
    if (!last) return;
    const box = plot.getBoundingClientRect();
    const at = last.unixMs - (1 - (event.clientX - box.left) / box.width) * this.#span;
    const distance = (sample) => Math.abs(sample.unixMs - at);
    const near = this.#samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best));
    const x = WIDTH * (1 - (last.unixMs - near.unixMs) / this.#span);
    for (const name of ["x1", "x2"]) this.marker.setAttribute(name, x);
    this.marker.setAttribute("visibility", "visible");
    this.hint.hidden = false;
    this.hint.replaceChildren(el("span", {}, clock(near.unixMs)), ...this.#legend(near));
    this.hint.classList.toggle("left", x > WIDTH / 2);
  }

  #unpoint() {
    this.hint.hidden = true;
    this.marker?.setAttribute("visibility", "hidden");
  }
}

/** The samples that have a value, cut where some have none. */
function pieces(samples, key) {
  const runs = [[]];
  for (const sample of samples) {
    if (sample[key] === null || sample[key] === undefined) runs.push([]);
    else runs.at(-1).push(sample);
  }
  return runs.filter((run) => run.length > 0);
}
