// One room: what is said in it, who is there, its settings, and what an operator does in it.

import { card, confirmed, el, icon } from "./dom.js";
import { roomName, short } from "./format.js";
import { settings } from "./settings.js";
import { Tail } from "./tail.js";

const LOOK_MS = 3000;

export function room(scene, arn) {
  const { api, every, attempt, signal } = scene;
  const name = el("h1", {}, "Room");
  const figures = el("p", { class: "muted" });
  const people = el("ul", { class: "people" });
  const peopleNote = el("p", { class: "muted small" });
  const setup = settings(scene, arn);
  const act = {
    remove: (frame) => attempt(() => api.call("DeleteMessage", { roomIdentifier: arn, id: frame.Id, reason: "Deleted by the operator" })),
    kick: (userId) => kick(scene, arn, userId),
  };
  const tail = new Tail(act);
  listen(scene, arn, tail);
  every(LOOK_MS, () => attempt(async () => {
    const told = await api.call("DescribeRoom", { roomIdentifier: arn, maxViewers: 20 });
    if (signal.aborted) return;
    name.textContent = roomName(told);
    document.title = `${roomName(told)} – Uproar console`;
    figures.replaceChildren(`${short(told.viewers)} viewers · ${short(told.perMinute)} messages a minute · `, el("code", {}, told.id));
    setup.show(told.settings);
    people.replaceChildren(...(told.named ?? []).map((sender) => person(sender, act)));
    const shown = told.named?.length ?? 0;
    peopleNote.textContent = told.viewers > shown ? `${short(told.viewers - shown)} more are not shown; find one under Users.` : shown ? "" : "Nobody is here.";
  }));
  return [
    el("div", { class: "title" },
      el("div", {}, el("a", { class: "back", href: "#/rooms" }, icon("back"), "Rooms"), name, figures),
      el("button", { class: "danger", onclick: () => remove(scene, arn, name.textContent) }, "Delete room")),
    el("div", { class: "room" },
      tail.element,
      el("div", { class: "side" },
        card("Send an event", eventForm(scene, arn)),
        card("Viewers", people, peopleNote),
        card("Settings", setup.element))),
  ];
}

/** Listens for as long as the view is shown; begins again after a hand-over or a lost connection. */
async function listen({ api, signal, attempt }, arn, tail) {
  while (!signal.aborted) {
    tail.state("connecting");
    const isDone = await attempt(async () => {
      const reason = await api.tail(arn, (frame) => tail.hear(frame), signal, () => tail.state("live"));
      tail.state("ended", reason);
    });
    if (!isDone && !signal.aborted) tail.state("ended", "the server refused to listen");
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

const person = (sender, { kick: kickUser }) =>
  el("li", {},
    el("span", { class: "user" }, sender.UserId),
    el("button", { class: "quiet small", "aria-label": `Kick ${sender.UserId}`, onclick: () => kickUser(sender.UserId) }, "Kick"));

/** Asks, then closes all connections of a user in a room. */
export async function kick({ api, attempt }, arn, userId) {
  const detail = "All of this user's connections in the room are closed. A new token lets them back in.";
  if (!(await confirmed(`Kick ${userId}?`, { detail, action: "Kick" }))) return false;
  return attempt(() => api.call("DisconnectUser", { roomIdentifier: arn, userId, reason: "Kicked by the operator" }), `${userId} was disconnected.`);
}

async function remove({ api, attempt }, arn, name) {
  const detail = "Everybody in it is disconnected, and its settings are gone.";
  if (!(await confirmed("Delete this room?", { detail, action: "Delete room", typed: name }))) return;
  if (await attempt(() => api.call("DeleteRoom", { identifier: arn }), `${name} is deleted.`)) location.hash = "#/rooms";
}

function eventForm({ api, attempt }, arn) {
  const form = el("form", {},
    el("label", {}, "Name", el("input", { name: "name", required: true, maxlength: 50, autocomplete: "off", spellcheck: "false", placeholder: "app:notice" })),
    el("label", {}, "Attributes ", el("span", { class: "muted" }, "one a line, as in text=Hello"),
      el("textarea", { name: "attributes", rows: 2, spellcheck: "false" })),
    el("button", {}, "Send event"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { name, attributes } = form.elements;
    const pairs = attributes.value.split("\n").filter(Boolean).map((line) => {
      const at = line.indexOf("=");
      return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
    });
    attempt(() => api.call("SendEvent", { roomIdentifier: arn, eventName: name.value, attributes: Object.fromEntries(pairs) }), "The event was sent.");
  });
  return form;
}
