// What a moderator does, as commands that any client can send: a message with the attribute `uproar:do` (docs/features.md).

import { h } from "/demo/dom.js";
import { openAt, openMenu } from "/demo/menu.js";

const SLOW = { off: "Off", 5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min" };
const TALK = { all: "Everybody", none: "Moderators only" };

/** What can be done about a message and its sender. `send(verb, attributes)` says it in the room. */
export function openLineMenu(anchor, { id, user, text, own }, send) {
  const about = { "uproar:user": user, "uproar:reason": "moderated" };
  const items = [["Pin for everybody", () => send("pin", { "uproar:id": id }, text)]];
  if (!own) {
    items.push(
      ["Time out for 1 minute", () => send("timeout", { ...about, "uproar:seconds": "60" })],
      ["Time out for 10 minutes", () => send("timeout", { ...about, "uproar:seconds": "600" })],
    );
  }
  items.push([`Remove all messages of ${user}`, () => send("purge", about), true]);
  if (!own) items.push([`Ban ${user}`, () => send("ban", about), true]);
  openMenu(anchor, `${user}`, items);
}

/** What holds back all of a room. `modes` is its state as it was told last. */
export function openRoomBox(anchor, modes, send) {
  const set = (key, value) => send("set", { "uproar:key": key, "uproar:value": value });
  const choice = (label, options, chosen, change) => {
    const known = chosen in options ? options : { ...options, [chosen]: chosen };
    const list = Object.entries(known).map(([value, text]) => h("option", { value, selected: value === chosen }, text));
    const select = h("select", { onchange: () => change(select.value) }, ...list);
    return h("label", {}, label, " ", select);
  };
  const emotes = h("input", {
    type: "checkbox",
    checked: modes.Emotes === "only",
    onchange: () => set("emotes", emotes.checked ? "only" : "off"),
  });
  let asked = false;
  const clear = h("button", { type: "button", class: "danger", onclick: () => {
    if (asked) {
      box.hidePopover();
      send("clear", { "uproar:reason": "cleared" });
    }
    asked = true;
    clear.textContent = "Really remove everything?";
  } }, "Remove all messages");
  const box = h(
    "div",
    { class: "box modes", popover: "auto", role: "dialog", "aria-label": "Room" },
    choice("Slow mode", SLOW, modes.Slow || "off", (value) => set("slow", value)),
    choice("Who may write", TALK, modes.Talk || "all", (value) => set("talk", value)),
    h("label", { class: "tick" }, emotes, " Emotes only"),
    clear,
    h("p", { class: "faint" }, "Moderators are never held back."),
  );
  openAt(anchor, box);
}
