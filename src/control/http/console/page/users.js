// Where a user is, and how to make them leave.

import { el } from "./dom.js";
import { roomName } from "./format.js";
import { kick } from "./room.js";

export function users(scene) {
  const { api, attempt } = scene;
  const input = el("input", { type: "search", name: "user", required: true, maxlength: 128, "aria-label": "User id", placeholder: "User id, exactly", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const found = el("div", { class: "found" });
  const form = el("form", { class: "tools" }, input, el("button", { class: "primary" }, "Find"));
  const look = () => attempt(async () => {
    const userId = input.value;
    const { rooms, isMore } = await api.call("FindUser", { userId });
    if (!rooms.length) {
      found.replaceChildren(el("p", { class: "muted", role: "status" }, `${userId} is not connected to this server.`));
      return;
    }
    const leave = async (room) => (await kick(scene, room.arn, userId)) && look();
    found.replaceChildren(
      el("p", { role: "status" }, el("strong", {}, userId), ` is in ${rooms.length}${isMore ? " or more" : ""} ${rooms.length === 1 ? "room" : "rooms"}.`),
      el("div", { class: "card flush" }, el("table", { class: "list" },
        el("thead", {}, el("tr", {}, ["Room", "Connections", ""].map((name) => el("th", { scope: "col" }, name || el("span", { class: "hidden" }, "Acts"))))),
        el("tbody", {}, rooms.map((room) => el("tr", {},
          el("th", { scope: "row" }, el("a", { href: `#/room/${encodeURIComponent(room.arn)}` }, roomName(room))),
          el("td", { class: "number" }, String(room.connections)),
          el("td", { class: "number" }, el("button", { class: "small", onclick: () => leave(room) }, "Kick"))))))));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  return [
    el("h1", {}, "Users"),
    el("p", { class: "muted" }, "Finds all connections of a user to this server, in every room."),
    form,
    found,
  ];
}
