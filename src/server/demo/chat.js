// The page of `uproar dev`: viewers side by side, the storm, the features, and the code tab.

import { snippets } from "/demo/code.js";
import { ask, byId, copyOf, h, roving } from "/demo/dom.js";
import { Features } from "/demo/features.js";
import { watch } from "/demo/room.js";
import { Storm } from "/demo/storm.js";
import { Viewer } from "/demo/viewer.js";

const VIEWERS_MAX = 4;
const COPIED_MS = 2000;
const ROLES = { viewer: "viewer", moderator: "moderator" };

const query = new URLSearchParams(location.search);

/** A token by this server, and its address. */
async function here(user, role) {
  const answer = await ask(`/demo/token?user=${encodeURIComponent(user)}&role=${role}`);
  return { ...answer, url: location.origin.replace(/^http/, "ws") };
}

// -- viewers --

const viewers = new Set();
// What the room has beyond IVS Chat, as the server said last.
let offered = null;
const suffix = 100 + Math.floor(Math.random() * 900);
let guests = 0;

function add(user, role) {
  const viewer = new Viewer({
    user: user ?? `guest-${suffix + guests++}`,
    choice: { name: "role", label: "Role", value: role, options: ROLES },
    ticket: ({ user, joinForm }) => here(user, joinForm.role.value),
    leave: viewers.size > 0 && remove,
  });
  viewer.log.placeholder = welcome(viewer);
  viewers.add(viewer);
  viewer.extras.offer(offered);
  byId("viewers").append(viewer.element);
  arrange();
  return viewer;
}

function remove(viewer) {
  viewer.client.leave();
  viewer.element.remove();
  viewers.delete(viewer);
  arrange();
  byId("second").focus();
}

function arrange() {
  document.body.classList.toggle("two", viewers.size > 1);
  byId("second").hidden = viewers.size >= VIEWERS_MAX;
}

function addAndJoin() {
  const viewer = add(null, "viewer");
  viewer.join();
  viewer.element.scrollIntoView({ block: "nearest" });
}

/** What an empty room offers: something to press. */
function welcome(viewer) {
  const act = (text, onclick) => h("button", { type: "button", onclick }, text);
  return [
    h(
      "div",
      { class: "before" },
      h("p", { class: "lead" }, "A chat room that holds a crowd"),
      h(
        "ol",
        { class: "steps" },
        h("li", {}, h("b", {}, "Join"), " under any name: as a viewer, or as a moderator, who deletes and kicks."),
        h("li", {}, h("b", {}, "Add a viewer"), " beside you, or open this page again: it is one room."),
        h("li", {}, h("b", {}, "Start a storm"), " of up to 2,000 viewers, and see what they see, and how soon."),
        h("li", {}, h("b", {}, "Switch on the features"), " that IVS Chat lacks: history, polls, reactions, modes, bans."),
      ),
    ),
    h("p", { class: "after lead" }, "No messages yet"),
    h(
      "p",
      { class: "after" },
      act("Say hello 👋", () => viewer.say("Hello, everybody 👋")),
      act("Add a viewer", addAndJoin),
      act("Start a storm", () => {
        open("storm");
        if (!storm.isOn()) storm.begin();
      }),
      act("Features", () => {
        open("features");
        byId("features-switch").focus();
      }),
    ),
  ];
}

// -- panels: one at a time --

const key = async () => (await here("storm", "viewer")).key;
const storm = new Storm(key);
const features = new Features(key);
const PANELS = ["storm", "features"];

/** Opens a panel, or none. */
function open(panel) {
  for (const name of PANELS) {
    byId(name).hidden = name !== panel;
    byId(`toggle-${name}`).setAttribute("aria-expanded", String(name === panel));
  }
  if (panel === "storm") nameProgram();
}

for (const name of PANELS) byId(`toggle-${name}`).addEventListener("click", () => open(byId(name).hidden ? name : null));

/** A command that can be pasted: of the program and the data directory that run here. */
async function nameProgram() {
  const { command } = await here("storm", "viewer").catch(() => ({}));
  if (command) byId("storm-more").textContent = command.replace(" token create", " room set") + " lobby --rate 100";
}

// -- tabs --

const TABS = ["chat", "code"];

function show(tab) {
  for (const name of TABS) {
    byId(name).hidden = name !== tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
  }
  byId("actions").hidden = tab !== "chat";
  if (tab === "code") showCode();
}

let codeShown = false;
async function showCode() {
  if (codeShown) return;
  codeShown = true;
  try {
    for (const [title, text] of snippets(await here("code", "viewer"))) byId("snippets").append(figure(title, text));
    byId("code-note").textContent = "Ready to paste: keys, room and addresses are those of this server.";
  } catch (error) {
    codeShown = false;
    byId("code-note").textContent = `${error.message} Press the tab again to retry.`;
  }
}

function figure(title, text) {
  const element = copyOf("snippet");
  element.querySelector(".title").textContent = title;
  const code = element.querySelector("code");
  code.textContent = text;
  element.querySelector("pre").setAttribute("aria-label", title);
  const copy = element.querySelector(".copy");
  copy.setAttribute("aria-label", `Copy: ${title}`);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      // Not allowed here: select it, so that the keyboard can.
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), COPIED_MS);
  });
  return element;
}

byId("tabs").addEventListener("keydown", (event) => {
  const tabs = TABS.map((name) => byId(`tab-${name}`));
  const next = roving(tabs, event, event.target);
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
});
for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => show(name));
byId("second").addEventListener("click", addAndJoin);

// `/?user=ann&role=moderator` joins at once; `/#code` shows the code, `/#storm` and `/#features` open those panels.
const first = add(query.get("user"), query.get("role") === "moderator" ? "moderator" : "viewer");
if (query.has("user")) first.join();
else first.joinForm.user.select();
show(location.hash === "#code" ? "code" : "chat");
open(PANELS.find((name) => location.hash === `#${name}`));
watch(
  (room) => {
    storm.show(room);
    features.show(room);
    if (!room) return;
    offered = room.features;
    for (const viewer of viewers) viewer.extras.offer(offered);
  },
  () => storm.query,
);
