// What the server says of itself, for all views: figures of now every two seconds, samples as they come.

const LOOK_MS = 2000;
const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

export class Figures {
  #api;
  #told = new Set();
  #ended = false;
  #last;
  /** The newest answer of GetStats. */
  stats = null;
  /** The samples of GetHistory, oldest first. */
  samples = [];
  /** Whether the last look got no answer. */
  isLost = false;

  constructor(api) {
    this.#api = api;
  }

  /** Looks once. */
  async look() {
    const { samples } = this;
    const [stats, history] = await Promise.all([
      this.#api.call("GetStats"),
      this.#api.call("GetHistory", this.#last === undefined ? {} : { after: this.#last }),
    ]);
    const columns = history.columns.map(camel);
    const rows = history.samples.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at]])));
    if (history.isWhole) samples.length = 0;
    samples.push(...rows);
    samples.splice(0, Math.max(0, samples.length - history.samplesMax));
    this.#last = history.last;
    this.stats = stats;
  }

  /** Looks until the end; `refused` gets what goes wrong. */
  async start(refused) {
    while (!this.#ended) {
      if (!document.hidden) {
        try {
          await this.look();
          this.isLost = false;
        } catch (error) {
          this.isLost = true;
          refused(error);
        }
        for (const told of this.#told) told();
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  end() {
    this.#ended = true;
  }

  /** Tells after each look, until `signal` ends it. */
  follow(told, signal) {
    this.#told.add(told);
    signal?.addEventListener("abort", () => this.#told.delete(told));
  }
}
