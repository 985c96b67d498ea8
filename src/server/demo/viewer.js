// One viewer on a page: a form to join, the room's messages, and a line to say something.

import { Client } from "/demo/client.js";
import { Composer } from "/demo/composer.js";
import { h } from "/demo/dom.js";
import { Extras } from "/demo/extras.js";
import { Log, avatar } from "/demo/log.js";

const TICK_MS = 250;

/** What the room takes, as the server said last. */
export const limits = { characters: 500, messages_per_second: 10 };

const lengthOf = (text) => [...text].length;

export class Viewer {
  /**
   * `choice` is the form's second field: `{ name, label, value, options }`, the options by their values.
   * `ticket(viewer)` resolves to `{ token, url }`.
   */
  constructor({ user, choice, ticket, leave }) {
    this.client = new Client(() => ticket(this), this);
    this.log = new Log({
      delete: (id) => this.client.delete(id, `removed by ${this.user}`),
      kick: (name) => this.#kick(name),
      menu: (line, anchor) => this.extras.menu(line, anchor),
    });
    this.composer = new Composer((text) => this.say(text), limits);
    this.extras = new Extras(this);
    this.choice = choice;
    this.#build(user, leave);
    this.joinForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.join();
    });
    // The role is part of the token, the node of the address: a new one means a new connection.
    this.joinForm[choice.name].addEventListener("change", () => this.isConnected() && this.join());
  }

  #build(user, leave) {
    const { name, label, value, options } = this.choice;
    const choices = Object.entries(options).map(([key, text]) => h("option", { value: key, selected: key === value }, text));
    this.go = h("button", { class: "go primary" }, "Join");
    this.joinForm = h(
      "form",
      { class: "join" },
      h("label", {}, h("span", {}, "Name "), h("input", { name: "user", value: user, required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false" })),
      h("label", {}, h("span", {}, `${label} `), h("select", { name }, ...choices)),
      this.go,
    );
    this.name = h("span", { class: "name" });
    this.badge = h("span", { class: "badge" });
    this.who = h(
      "div",
      { class: "who" },
      this.name,
      this.badge,
      h("button", { class: "change quiet", type: "button", onclick: () => this.#edit() }, "Change"),
    );
    this.who.append(this.extras.roomMenu);
    if (leave) this.who.append(h("button", { class: "leave quiet", type: "button", onclick: () => leave(this) }, "Leave"));
    this.status = h("span", { class: "state", "data-state": "idle", role: "status" }, "Not connected");
    this.countdown = h("span", { class: "countdown", "aria-hidden": "true" });
    this.now = h("button", { class: "now", type: "button", hidden: true, onclick: () => this.client.connect() }, "Try now");
    this.latency = h("span", { class: "latency" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.question = h("dialog", { class: "question", "aria-label": "Kick yourself?" });
    this.element = h(
      "section",
      { class: "viewer", "aria-label": "Viewer" },
      this.joinForm,
      this.who,
      h("p", { class: "status" }, this.status, " ", this.countdown, " ", this.now, " ", this.extras.crowd, " ", this.latency),
      ...this.extras.above,
      h("div", { class: "room" }, this.log.element, this.log.empty, this.log.newer, this.extras.reactions.sky),
      this.problem,
      this.extras.reactions.bar,
      this.composer.element,
      this.question,
    );
  }

  join() {
    this.user = this.joinForm.user.value;
    const chosen = this.joinForm[this.choice.name].value;
    this.element.classList.toggle("moderator", chosen === "moderator");
    this.element.classList.remove("editing");
    this.element.setAttribute("aria-label", `Viewer ${this.user}`);
    this.name.replaceChildren(avatar(this.user), h("span", { title: this.user }, this.user));
    this.badge.textContent = this.choice.options[chosen];
    this.#settle();
    this.client.connect();
  }

  isConnected() {
    return this.status.dataset.state === "connected";
  }

  say(text) {
    if (text === "" || !this.isConnected()) return;
    this.#settle();
    this.client.say(text);
    this.composer.taken();
  }

  isModerator() {
    return this.element.classList.contains("moderator");
  }

  #edit() {
    this.element.classList.add("editing");
    this.joinForm.user.select();
  }

  /** What was refused is no longer the last word. */
  #settle() {
    this.problem.hidden = true;
  }

  #kick(name) {
    const kick = () => this.client.kick(name, `kicked by ${this.user}`);
    if (name !== this.user) return kick();
    const close = (then) => () => {
      this.question.close();
      then?.();
    };
    this.question.replaceChildren(
      h("p", {}, `${name} is you. Kick yourself? It ends your own session, here and in every tab.`),
      h("button", { type: "button", autofocus: true, onclick: close() }, "Stay"),
      " ",
      h("button", { type: "button", class: "danger", onclick: close(kick) }, "Kick me"),
    );
    this.question.showModal();
  }

  // -- what the client tells --

  state(name, detail, waitMs) {
    this.status.dataset.state = name;
    this.status.textContent = detail;
    const connected = name === "connected";
    this.composer.setConnected(connected);
    this.go.textContent = { connected: "Rejoin", closed: "Join again" }[name] ?? "Join";
    this.element.classList.toggle("connected", connected);
    this.element.classList.toggle("joined", name !== "closed");
    if (connected) this.#settle();
    else this.latency.textContent = "";
    this.#countDown(waitMs);
    if (connected && this.element.contains(document.activeElement)) this.composer.field.focus();
  }

  #countDown(waitMs) {
    clearInterval(this.ticking);
    this.now.hidden = waitMs === undefined;
    this.countdown.textContent = "";
    if (waitMs === undefined) return;
    const at = performance.now() + waitMs;
    const tick = () => {
      const seconds = Math.ceil((at - performance.now()) / 1000);
      this.countdown.textContent = `Trying again in ${Math.max(1, seconds)} s.`;
    };
    tick();
    this.ticking = setInterval(tick, TICK_MS);
  }

  message(frame, roundTripMs) {
    const own = frame.Sender.UserId === this.user;
    const isOlder = this.extras.isOlder();
    const isNew = this.log.message(frame, { own, isOlder });
    if (isOlder) return this.extras.remembered(isNew);
    if (own) this.extras.said();
    if (frame.Attributes?.["uproar:held"]) this.log.tag(frame.Id, "waits for a moderator");
    if (roundTripMs === undefined) return;
    this.latency.textContent = `own message back in ${roundTripMs.toFixed(1)} ms`;
  }

  answered(frame) {
    this.extras.answered(frame);
  }

  event({ EventName: name, Attributes: attributes }) {
    if (name === "aws:DELETE_MESSAGE") {
      this.log.remove(attributes.MessageID, attributes.Reason);
    } else if (name === "aws:DISCONNECT_USER") {
      this.log.note(`${attributes.UserId} was disconnected: ${attributes.Reason}`);
    } else if (!this.extras.event(name, attributes ?? {})) {
      this.log.note(`${name} ${JSON.stringify(attributes ?? {})}`);
    }
  }

  refused(frame, request) {
    const { ErrorCode: code, ErrorMessage: message, RetryAfter: seconds } = frame;
    if (request?.Attributes) return this.extras.refused(frame, request.Attributes);
    const passes = this.composer.held(message, seconds);
    this.problem.textContent = passes ? "" : this.#why(code, message, request);
    this.problem.hidden = passes;
    if (request?.Content) this.composer.giveBack(request.Content);
  }

  #why(code, message, request) {
    const said = `The server says: ${message} (${code}).`;
    const length = lengthOf(request?.Content ?? "");
    if (code === 400 && length > limits.characters) return `Too long: ${length} of ${limits.characters} characters. ${said}`;
    if (message === "repeated message") return `This room does not take the same again so soon. ${said}`;
    if (message === "only emotes") return `This room takes emotes alone, as :wave: :heart:. ${said}`;
    if (/^chat is /.test(message)) return `You cannot write here now. ${said}`;
    if (code === 429) return `Too fast: this room takes ${limits.messages_per_second} messages a second, all viewers together. ${said}`;
    if (code === 403) return `Not allowed in this role. ${said}`;
    if (code === 406) return `Refused by the room's review handler. ${said}`;
    return said;
  }
}
