// The page: viewers side by side, and the code tab. Text from outside is set with `textContent` only.

import { Client } from "/demo/client.js";
import { snippets } from "/demo/code.js";

const MESSAGES_KEPT = 500;
const NEAR_END_PX = 40;

const byId = (id) => document.getElementById(id);
const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);
const query = new URLSearchParams(location.search);

/** What `/demo/token` says; its refusals become errors with the server's text. */
async function ticket(user, role) {
  const answer = await fetch(`/demo/token?user=${encodeURIComponent(user)}&role=${role}`);
  if (!answer.ok) {
    const text = (await answer.text()).trim();
    throw Object.assign(new Error(text), { final: answer.status < 500 });
  }
  return answer.json();
}

class Viewer {
  constructor(name, role) {
    this.element = copyOf("viewer");
    const part = (selector) => this.element.querySelector(selector);
    [this.joinForm, this.go, this.sayForm] = [part(".join"), part(".go"), part(".say")];
    [this.status, this.latency] = [part(".state"), part(".latency")];
    [this.list, this.problem] = [part(".messages"), part(".problem")];
    this.joinForm.user.value = name;
    this.joinForm.role.value = role;
    this.items = new Map();
    this.client = new Client(() => this.token(), this);
    this.joinForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.join();
    });
    // The role is part of the token: a new one means a new connection.
    this.joinForm.role.addEventListener("change", () => this.isConnected() && this.join());
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
    this.element.classList.toggle("moderator", this.joinForm.role.value === "moderator");
    this.problem.hidden = true;
    this.client.connect();
  }

  isConnected() {
    return this.status.dataset.state === "connected";
  }

  async token() {
    return (await ticket(this.user, this.joinForm.role.value)).token;
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

function add(name, role) {
  const viewer = new Viewer(name, role);
  byId("chat").append(viewer.element);
  return viewer;
}

function show(tab) {
  for (const name of ["chat", "code"]) {
    byId(name).hidden = name !== tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
  }
  byId("second").hidden = tab !== "chat" || second !== null;
  if (tab === "code") showCode();
}

let codeShown = false;
async function showCode() {
  if (codeShown) return;
  codeShown = true;
  try {
    for (const [title, text] of snippets(await ticket("code", "viewer"))) {
      const figure = copyOf("snippet");
      figure.querySelector(".title").textContent = title;
      figure.querySelector("code").textContent = text;
      figure.querySelector(".copy").addEventListener("click", async ({ target }) => {
        await navigator.clipboard.writeText(text);
        target.textContent = "Copied";
      });
      byId("code").append(figure);
    }
  } catch (error) {
    codeShown = false;
    byId("code-note").textContent = error.message;
  }
}

let second = null;
byId("second").addEventListener("click", () => {
  second = add(`guest-${suffix + 1}`, "viewer");
  document.body.classList.add("two");
  byId("second").hidden = true;
  second.join();
});
byId("tab-chat").addEventListener("click", () => show("chat"));
byId("tab-code").addEventListener("click", () => show("code"));

// `/?user=ann&role=moderator` joins at once; `/#code` shows the code tab.
const suffix = 100 + Math.floor(Math.random() * 900);
const first = add(query.get("user") ?? `guest-${suffix}`, query.get("role") === "moderator" ? "moderator" : "viewer");
if (query.has("user")) first.join();
else first.joinForm.user.select();
show(location.hash === "#code" ? "code" : "chat");
