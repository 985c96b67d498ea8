// One viewer on a page. Text from outside is set with `textContent` only.

import { Client } from "/demo/client.js";

const MESSAGES_KEPT = 500;
const NEAR_END_PX = 40;

export const byId = (id) => document.getElementById(id);
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** What a token's page says; its refusals become errors with the server's text. */
export async function ticket(query) {
  const answer = await fetch(`/demo/token?${query}`);
  if (!answer.ok) {
    const text = (await answer.text()).trim();
    throw Object.assign(new Error(text), { final: answer.status < 500 });
  }
  return answer.json();
}

/**
 * A card with a form to join, the room's messages, and a line to say something; from the page's template `viewer`.
 * `values` fill the form; `ticket(viewer)` resolves to `{ token, url }`.
 */
export class Viewer {
  constructor(values, ticket) {
    this.element = copyOf("viewer");
    const part = (selector) => this.element.querySelector(selector);
    [this.joinForm, this.go, this.sayForm] = [part(".join"), part(".go"), part(".say")];
    [this.status, this.latency] = [part(".state"), part(".latency")];
    [this.list, this.problem] = [part(".messages"), part(".problem")];
    for (const [name, value] of Object.entries(values)) this.joinForm[name].value = value;
    this.items = new Map();
    this.client = new Client(() => ticket(this), this);
    this.joinForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.join();
    });
    // The role is part of the token, the node of the address: a new one means a new connection.
    for (const choice of this.joinForm.querySelectorAll("select")) {
      choice.addEventListener("change", () => this.isConnected() && this.join());
    }
    this.sayForm.addEventListener("submit", (event) => {
      event.preventDefault();
      const { content } = this.sayForm;
      if (content.value === "") return;
      this.problem.hidden = true;
      this.client.say(content.value);
      content.value = "";
    });
    this.list.addEventListener("click", (event) => this.moderate(event.target));
  }

  join() {
    this.user = this.joinForm.user.value;
    this.element.classList.toggle("moderator", this.joinForm.role?.value === "moderator");
    this.problem.hidden = true;
    this.client.connect();
  }

  isConnected() {
    return this.status.dataset.state === "connected";
  }

  moderate(button) {
    const item = button.closest("li");
    if (button.matches(".delete")) this.client.delete(item.dataset.id, `removed by ${this.user}`);
    if (button.matches(".kick")) this.client.kick(item.dataset.user, `kicked by ${this.user}`);
  }

  // -- what the client tells --

  state(name, detail) {
    this.status.dataset.state = name;
    this.status.textContent = detail;
    const connected = name === "connected";
    for (const field of this.sayForm.elements) field.disabled = !connected;
    this.go.textContent = { connected: "Rejoin", closed: "Join again" }[name] ?? "Join";
    this.element.classList.toggle("connected", connected);
    if (connected && this.element.contains(document.activeElement)) this.sayForm.content.focus();
  }

  message(frame, roundTripMs) {
    if (this.items.has(frame.Id)) return;
    const item = copyOf("message");
    const user = frame.Sender.UserId;
    item.dataset.id = frame.Id;
    item.dataset.user = user;
    item.classList.toggle("own", user === this.user);
    item.querySelector(".sender").textContent = user;
    item.querySelector(".content").textContent = frame.Content;
    const time = item.querySelector("time");
    time.dateTime = frame.SendTime;
    time.textContent = new Date(frame.SendTime).toLocaleTimeString();
    this.items.set(frame.Id, item);
    this.append(item);
    if (roundTripMs !== undefined) {
      this.latency.textContent = `own message back in ${roundTripMs.toFixed(1)} ms`;
    }
  }

  event(frame) {
    const { EventName: name, Attributes: attributes } = frame;
    if (name === "aws:DELETE_MESSAGE") {
      const item = this.items.get(attributes.MessageID);
      if (!item) return;
      item.classList.add("deleted");
      item.querySelector(".content").textContent = attributes.Reason || "deleted";
      item.querySelector(".tools").remove();
    } else {
      const text =
        name === "aws:DISCONNECT_USER"
          ? `${attributes.UserId} was disconnected: ${attributes.Reason}`
          : `${name} ${JSON.stringify(attributes ?? {})}`;
      const item = document.createElement("li");
      item.className = "note";
      item.textContent = text;
      this.append(item);
    }
  }

  error(text) {
    this.problem.textContent = text;
    this.problem.hidden = false;
  }

  append(item) {
    const { list } = this;
    const follow = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
    list.append(item);
    if (list.childElementCount > MESSAGES_KEPT) {
      const oldest = list.firstElementChild;
      this.items.delete(oldest.dataset.id);
      oldest.remove();
    }
    if (follow) list.scrollTop = list.scrollHeight;
  }
}
