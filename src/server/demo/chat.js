// The page of `uproar dev`: viewers side by side, and the code tab.

import { snippets } from "/demo/code.js";
import { Viewer, byId, copyOf, ticket } from "/demo/viewer.js";

const query = new URLSearchParams(location.search);

/** A token by this server, and its address. */
async function here(user, role) {
  const answer = await ticket(`user=${encodeURIComponent(user)}&role=${role}`);
  return { ...answer, url: location.origin.replace(/^http/, "ws") };
}

function add(user, role) {
  const viewer = new Viewer({ user, role }, ({ user, joinForm }) => here(user, joinForm.role.value));
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
    for (const [title, text] of snippets(await here("code", "viewer"))) {
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
