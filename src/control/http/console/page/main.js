// Signs in, follows the address to a view, keeps the figures that all views share.

import { Api, Refused, forget, remember, remembered } from "./api.js";
import { el, icon, note } from "./dom.js";
import { Figures } from "./figures.js";
import { overview } from "./overview.js";
import { operations } from "./operations.js";
import { room } from "./room.js";
import { rooms } from "./rooms.js";
import { signIn } from "./sign-in.js";
import { users } from "./users.js";

const VIEWS = { overview, rooms, room, users, operations };
const LINKS = [["overview", "Overview"], ["rooms", "Rooms"], ["users", "Users"], ["operations", "Operations"]];

const app = document.getElementById("app");
let leave = () => {};

/** Shows the form, and what is wrong with the last key. */
function signOut(problem = "") {
  leave();
  forget();
  app.replaceChildren(el("main", { id: "main" }, signIn(enter, problem)));
  app.querySelector("input")?.focus();
}

/** Tries a key by a call that any of the console's keys may make. */
async function enter(id, secret, isKept) {
  const api = new Api(id, secret);
  const figures = new Figures(api);
  await figures.look();
  if (isKept) remember(id, secret);
  serve(api, figures);
}

function serve(api, figures) {
  const links = LINKS.map(([view, name]) => el("a", { href: `#/${view}` }, icon(view), el("span", {}, name)));
  const state = el("p", { class: "state" });
  const main = el("main", { id: "main", tabindex: "-1" });
  const out = el("button", { class: "quiet", "aria-label": "Sign out", onclick: () => signOut() }, icon("out"), el("span", {}, "Sign out"));
  app.replaceChildren(el("div", { class: "shell" },
    el("header", {}, el("p", { class: "brand" }, "Uproar"), state,
      el("p", { class: "who" }, el("span", { class: "muted" }, "Key "), api.id), out),
    el("nav", { "aria-label": "Views" }, links),
    main));
  figures.follow(() => state.replaceChildren(...stateOf(figures)));
  let end = () => {};
  const go = (isFirst) => {
    end();
    const [, name = "overview", argument = ""] = location.hash.split("/");
    const view = VIEWS[name] ? name : "overview";
    const shown = view === "room" ? "rooms" : view;
    LINKS.forEach(([of], at) => links[at].toggleAttribute("data-here", of === shown));
    LINKS.forEach(([of], at) => (of === shown ? links[at].setAttribute("aria-current", "page") : links[at].removeAttribute("aria-current")));
    const scene = new Scene(api, figures, signOut);
    end = () => scene.end();
    main.replaceChildren(...VIEWS[view](scene, decodeURIComponent(argument)));
    document.title = `${main.querySelector("h1").textContent} – Uproar console`;
    window.scrollTo(0, 0);
    // Without its scrolling, which would push the heading below the header.
    if (isFirst !== true) main.focus({ preventScroll: true });
  };
  const follow = () => go(false);
  window.addEventListener("hashchange", follow);
  figures.start((error) => error.isOfKey && signOut("The key is no longer good: it was revoked, or its secret has changed."));
  leave = () => {
    leave = () => {};
    end();
    figures.end();
    window.removeEventListener("hashchange", follow);
  };
  go(true);
}

/** What a view may use, until another one is shown. */
class Scene {
  #ended = new AbortController();

  constructor(api, figures, signOut) {
    this.api = api;
    this.signal = this.#ended.signal;
    this.signOut = signOut;
    this.figures = Object.create(figures, { follow: { value: (told) => figures.follow(told, this.signal) } });
    this.every = this.every.bind(this);
    this.attempt = this.attempt.bind(this);
  }

  end() {
    this.#ended.abort();
  }

  /** Does `work` now and again behind each end of it, while the page is looked at. */
  async every(ms, work) {
    while (!this.signal.aborted) {
      if (!document.hidden) await work();
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }

  /** Does something that the server may refuse; says `done`, or why not. Resolves to whether it was done. */
  async attempt(work, done = "") {
    try {
      await work();
      if (done) note(done);
      return true;
    } catch (error) {
      if (this.signal.aborted || error.name === "AbortError") return false;
      if (!(error instanceof Refused)) throw error;
      if (error.isOfKey) this.signOut("The key is no longer good: it was revoked, or its secret has changed.");
      else if (error.status !== 0) note(error.message, true);
      return false;
    }
  }
}

const STATES = { serving: "serving", noticed: "draining: noticed", cutting: "draining", stopped: "draining: last viewers" };

function stateOf({ stats, isLost }) {
  if (isLost) return [el("span", { class: "badge bad" }, "no answer")];
  const isWell = stats.state === "serving" && stats.ready;
  const text = stats.state === "serving" && !stats.ready ? "not ready" : STATES[stats.state] ?? stats.state;
  return [el("span", { class: `badge ${isWell ? "good" : "warn"}` }, text), el("span", { class: "muted" }, `v${stats.version}`)];
}

const kept = remembered();
if (!window.isSecureContext) {
  app.replaceChildren(el("main", { id: "main", class: "sign-in" }, el("h1", {}, "Uproar console"), el("p", { class: "problem", role: "alert" },
    "Browsers sign requests only on https:// or localhost, since anybody on the way could change a plain page. ",
    "Give the control listener a certificate, or forward its port: "),
    el("pre", { tabindex: "0" }, `ssh -L 8081:${location.host} server`), el("p", {}, "and open http://localhost:8081/console")));
} else if (kept) {
  enter(kept.id, kept.secret, true).catch((error) => signOut(error.isOfKey ? error.message : ""));
} else {
  signOut();
}
