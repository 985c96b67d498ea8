// What a room has beyond IVS Chat, as one viewer sees it: modes, pin, polls, reactions, viewers' number, bans, history.
//
// All of it comes as events and goes as messages with the attribute `uproar:do`: any client can do the same.

import { openLineMenu, openRoomBox } from "/demo/commands.js";
import { count, h } from "/demo/dom.js";
import { icon } from "/demo/icons.js";
import { Poll } from "/demo/poll.js";
import { Reactions } from "/demo/reactions.js";

const BAN_WORDS = { timeout: "timed out", ban: "banned", shadow: "shadow banned" };
// The card of a poll shows a vote, the sums show taps, and a held message says what became of it.
const SHOWN_ELSEWHERE = new Set(["react", "vote", "allow", "deny"]);
// As many as a room holds.
const HELD_KEPT = 500;

export class Extras {
  /** `viewer` has `client`, `log`, `composer`, `user` and `isModerator()`. */
  constructor(viewer) {
    this.viewer = viewer;
    this.modes = {};
    this.polls = new Map();
    // Lines about messages that wait for a moderator, by their ids.
    this.waiting = new Map();
    // Messages of the room's memory that are still to come.
    this.older = null;
    // Texts of pins that were asked for by id, in case that the room does not remember it.
    this.pinTexts = new Map();
    this.reactions = new Reactions((key, n) => this.#send("react", { "uproar:key": key, "uproar:n": String(n) }, key));
    this.chips = h("ul", { class: "chips", "aria-label": "Modes of the room", hidden: true });
    this.pin = h("div", { class: "pinned", role: "region", "aria-label": "Pinned message", hidden: true });
    this.cards = h("div", { class: "polls" });
    this.crowd = h("span", { class: "crowd" });
    this.roomMenu = h("button", { type: "button", class: "quiet room-menu", "aria-haspopup": "dialog", "aria-expanded": "false", onclick: () => openRoomBox(this.roomMenu, this.modes, this.#command) }, icon("tune"), " Room");
  }

  get above() {
    return [this.chips, this.pin, this.cards];
  }

  /** Whether the page knows that this room has more than IVS Chat's, and which reactions. */
  offer(features) {
    const on = Boolean(features?.on);
    this.viewer.element.classList.toggle("featured", on);
    this.reactions.offer(on ? features.reactions : []);
    if (this.on && !on) this.#reset();
    this.on = on;
  }

  #reset() {
    this.#state({});
    for (const poll of this.polls.values()) poll.remove();
    this.polls.clear();
    this.crowd.textContent = "";
  }

  // -- what this viewer does --

  #send(verb, attributes, text) {
    if (this.viewer.isConnected()) this.viewer.client.command(verb, attributes, text);
  }

  #command = (verb, attributes, text) => {
    if (verb === "pin") this.pinTexts.set(attributes["uproar:id"], text);
    this.#send(verb, attributes, verb);
  };

  /** The menu of a line, for a moderator. */
  menu(line, anchor) {
    openLineMenu(anchor, line, this.#command);
  }

  /** The room's answer to a command, which nobody else gets. */
  answered({ Content: text, Attributes: attributes }) {
    if (SHOWN_ELSEWHERE.has(attributes["uproar:do"])) return;
    this.viewer.log.note(text, { kind: "answer", tag: "only you see this" });
  }

  /** A command was refused: in the log, as its answer would be. */
  refused({ ErrorCode: code, ErrorMessage: message }, attributes) {
    const verb = attributes["uproar:do"];
    const id = attributes["uproar:id"];
    if (verb === "pin" && code === 404 && this.pinTexts.has(id) && !attributes["uproar:text"]) {
      return this.#send("pin", { "uproar:id": id, "uproar:text": this.pinTexts.get(id) }, verb);
    }
    if (verb === "vote") this.polls.get(attributes["uproar:tally"])?.refused(message);
    // A vote or a tap of who is timed out is refused like a message.
    this.viewer.composer.held(message);
    // Taps beyond the connection's rate are lost, and nobody misses them.
    if (verb !== "react" || code !== 429) this.viewer.log.note(`${verb}: ${message} (${code})`, { kind: "refusal", tag: "only you see this" });
  }

  // -- what the room tells --

  /** Whether this event was one of ours. */
  event(name, attributes) {
    const known = {
      "uproar:room": () => this.#state(attributes),
      "uproar:viewers": () => this.#viewers(attributes),
      "uproar:history": () => this.#history(attributes),
      "uproar:reactions": () => this.reactions.show(attributes),
      "uproar:tally": () => this.#tally(attributes),
      "uproar:ban": () => this.#ban(attributes),
      "uproar:held": () => this.#held(attributes),
      "uproar:decided": () => this.#decided(attributes),
      "uproar:clear": () => this.#clear(attributes),
      "app:DELETE_BY_USER": () => this.#purge(attributes),
    }[name];
    known?.();
    return known !== undefined;
  }

  #viewers({ Count: now, Peak: peak, Joined: joined, Left: left }) {
    const moved = [joined !== "0" && `+${joined}`, left !== "0" && `−${left}`].filter(Boolean).join(" ");
    this.crowd.textContent = `${Number(now).toLocaleString("en")} watching${moved && ` (${moved})`}, ${Number(peak).toLocaleString("en")} at most`;
  }

  #state(modes) {
    const slower = modes.Slow !== this.modes.Slow;
    this.modes = modes;
    const { Slow: slow, Talk: talk, Emotes: emotes, Unique: unique, Age: age } = modes;
    const chips = [
      slow && `Slow mode: one message in ${slow} s`,
      talk === "none" && "Chat is closed",
      talk && talk !== "none" && talk !== "all" && `Only ${talk.replaceAll("+", ", ")} may write`,
      emotes && "Emotes only, as :wave:",
      unique && "No repetitions",
      age && `Known for ${age} s`,
    ].filter(Boolean);
    this.chips.hidden = chips.length === 0;
    this.chips.replaceChildren(...chips.map((text) => h("li", {}, text)));
    const { composer } = this.viewer;
    if (slower) composer.free("slow");
    composer.close(this.#closed(talk));
    this.#pinned(modes);
  }

  #closed(talk) {
    if (!talk || talk === "all" || this.viewer.isModerator()) return "";
    return talk === "none" ? "The chat is closed. You can read on." : `The chat is open to: ${talk.replaceAll("+", ", ")}. You can read on.`;
  }

  /** A message of this viewer's user was said: slow mode counts from now. */
  said() {
    const { composer } = this.viewer;
    composer.free("timeout");
    if (this.modes.Slow && !this.viewer.isModerator()) composer.wait("slow", Number(this.modes.Slow));
  }

  #pinned({ Pinned: id, PinnedText: text, PinnedUser: user, PinnedBy: by }) {
    this.pin.hidden = !id;
    if (!id) return;
    const lift = h("button", { type: "button", class: "quiet unpin", "aria-label": "Unpin", onclick: () => this.#command("unpin", {}) }, icon("close"));
    const from = [user, by && `pinned by ${by}`].filter(Boolean).join(", ");
    this.pin.replaceChildren(icon("pin"), h("p", {}, h("span", { class: "pinned-text" }, text), " ", h("span", { class: "faint" }, from)), lift);
  }

  #tally(told) {
    let poll = this.polls.get(told.Id);
    if (!poll) {
      poll = new Poll(told.Id, {
        vote: (option) => this.#send("vote", { "uproar:tally": told.Id, "uproar:option": String(option) }, String(option)),
        closed: (text) => this.viewer.log.note(text),
      });
      this.polls.set(told.Id, poll);
      this.cards.append(poll.element);
    }
    poll.show(told);
  }

  #ban({ UserId: user, Mode: mode, Seconds: seconds, Reason: reason, By: by }) {
    const time = seconds ? ` for ${seconds} s` : "";
    const why = reason ? `: ${reason}` : "";
    const lift = this.viewer.isModerator() && h("button", { type: "button", class: "lift", onclick: () => this.#command("unban", { "uproar:user": user }) }, "Lift");
    this.viewer.log.note(`${user} is ${BAN_WORDS[mode] ?? mode}${time}${why} (by ${by || "a back end"})`, { actions: lift ? [lift] : [] });
    if (user === this.viewer.user && mode === "timeout") this.viewer.composer.wait("timeout", seconds ? Number(seconds) : NaN);
  }

  /** A rule holds a message back until a moderator decides; they alone are told. */
  #held({ MessageId: id, UserId: user, Content: text, Rule: rule }) {
    const decide = (verb, label) => h("button", { type: "button", class: "lift", onclick: () => this.#command(verb, { "uproar:id": id }) }, label);
    const actions = [decide("allow", "Allow"), decide("deny", "Deny")];
    const line = this.viewer.log.note(`${user}: ${text}`, { kind: "waits", tag: `waits for a moderator (${rule})`, actions });
    this.waiting.set(id, line);
    if (this.waiting.size > HELD_KEPT) this.waiting.delete(this.waiting.keys().next().value);
  }

  #decided({ MessageId: id, Result: result, By: by, Reason: reason }) {
    const what = [result, by && `by ${by}`, reason].filter(Boolean).join(", ");
    this.viewer.log.settle(this.waiting.get(id), what);
    this.waiting.delete(id);
    if (result === "allowed") this.viewer.log.tag(id, "");
    else this.viewer.log.remove(id, `never said: ${what}`);
  }

  #purge({ UserId: user, Reason: reason }) {
    this.viewer.log.removeWhere((line) => line.dataset.user === user, reason);
    this.viewer.log.note(`All messages of ${user} were removed${reason && `: ${reason}`}`);
  }

  #clear({ Reason: reason }) {
    this.viewer.log.removeWhere(() => true, reason);
    this.viewer.log.note(`All messages were removed${reason && `: ${reason}`}`);
  }

  // -- the room's memory --

  #history({ Count: count, Complete: complete, Resumed: resumed }) {
    this.older = Number(count) > 0 ? { left: Number(count), news: 0, complete: complete === "true", resumed: resumed === "true" } : null;
  }

  /** Whether a message that comes now is one that was said before. */
  isOlder() {
    return this.older !== null;
  }

  /** A remembered message has come; `isNew` if this viewer had not seen it. */
  remembered(isNew) {
    const older = this.older;
    older.left -= 1;
    older.news += isNew ? 1 : 0;
    if (older.left > 0) return;
    this.older = null;
    if (older.news === 0) return;
    const what = older.resumed ? "said while you were away" : "said before you came";
    this.viewer.log.divider(`${count(older.news, "message")} ${what}${older.complete ? "" : ", and more"}`);
  }
}
