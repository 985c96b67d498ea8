// All rooms: found by name, sorted, created.

import { el } from "./dom.js";
import { roomName, short, whole } from "./format.js";

const SORTS = [["viewers", "Most viewers"], ["rate", "Busiest"], ["changed", "Last changed"]];
const LOOK_MS = 3000;

export function rooms({ api, every, attempt, signal }) {
  const search = el("input", { type: "search", name: "text", placeholder: "Name or id", "aria-label": "Search rooms", autocomplete: "off", spellcheck: "false", maxlength: 128 });
  const sort = el("select", { name: "sort", "aria-label": "Order" }, SORTS.map(([value, name]) => el("option", { value }, name)));
  const body = el("tbody");
  const status = el("p", { class: "muted", role: "status" });
  const more = el("button", { hidden: true }, "Show more");
  const made = creation(api, attempt);
  let pages = 1;
  let asked = 0;
  const look = () => attempt(async () => {
    const own = ++asked;
    const found = await find(api, search.value.trim(), sort.value, pages);
    if (own !== asked || signal.aborted) return;
    body.replaceChildren(...found.rooms.map(row));
    more.hidden = !found.hasMore;
    status.textContent = found.rooms.length
      ? `${whole(found.rooms.length)} rooms${found.hasMore ? ", and there are more" : ""}`
      : search.value.trim() ? "No room has that in its name or id." : "There are no rooms yet. Create the first one.";
  });
  const anew = () => {
    pages = 1;
    look();
  };
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(anew, 200);
  });
  sort.addEventListener("change", anew);
  more.addEventListener("click", () => {
    pages += 1;
    look();
  });
  every(LOOK_MS, look);
  return [
    el("div", { class: "title" }, el("h1", {}, "Rooms"), el("button", { class: "primary", onclick: () => made.open() }, "Create room")),
    el("div", { class: "tools" }, search, sort),
    el("div", { class: "card flush" },
      el("table", { class: "list" },
        el("thead", {}, el("tr", {}, ["Room", "Viewers", "A minute"].map((name) => el("th", { scope: "col" }, name)))),
        body)),
    el("div", { class: "more" }, status, more),
    made.dialog,
  ];
}

async function find(api, text, sort, pages) {
  if (!text && sort !== "changed") {
    const most = Math.min(100, pages * 50);
    const { rooms: found } = await api.call("FindRooms", { by: sort, maxResults: most });
    return { rooms: found, hasMore: found.length === most && most < 100 };
  }
  const found = [];
  let nextToken;
  for (let page = 0; page < pages; page += 1) {
    const answer = await api.call("FindRooms", { ...(text && { text }), ...(nextToken && { nextToken }) });
    found.push(...answer.rooms);
    nextToken = answer.nextToken;
    if (!nextToken) break;
  }
  const by = { viewers: (room) => room.viewers, rate: (room) => room.perMinute }[sort];
  if (by) found.sort((one, other) => by(other) - by(one));
  return { rooms: found, hasMore: Boolean(nextToken) };
}

const row = (room) =>
  el("tr", {},
    el("th", { scope: "row" },
      el("a", { href: `#/room/${encodeURIComponent(room.arn)}` }, roomName(room)),
      room.name && el("small", { class: "muted" }, room.id)),
    el("td", { class: "number" }, short(room.viewers)),
    el("td", { class: "number" }, short(room.perMinute)));

/** The dialog that makes a room. */
function creation(api, attempt) {
  const name = el("input", { name: "name", maxlength: 128, pattern: "[a-zA-Z0-9\\-_]*", autocomplete: "off", spellcheck: "false" });
  const form = el("form", {},
    el("h2", { id: "create" }, "Create a room"),
    el("label", {}, "Name ", el("span", { class: "muted" }, "letters, digits, - and _"), name),
    el("menu", {}, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), el("button", { class: "primary" }, "Create")));
  const dialog = el("dialog", { "aria-labelledby": "create" }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(async () => {
      const room = await api.call("CreateRoom", name.value ? { name: name.value } : {});
      dialog.close();
      location.hash = `#/room/${encodeURIComponent(room.arn)}`;
    });
  });
  return { dialog, open: () => dialog.showModal() };
}
