// The messages of a room, as one viewer sees them, and what a moderator does to them.

import { h, roving } from "/demo/dom.js";
import { icon } from "/demo/icons.js";

const LINES_KEPT = 300;
const NEAR_END_PX = 40;
// Lines that come within this time are shown at once: a busy room would be laid out for each.
const SHOW_MS = 30;
// A room that says more than this a second is not read out.
const READ_OUT_PER_SECOND = 3;
const HOLD_MS = 450;

/** A colour for each name, the same on every page: FNV-1a, as names that differ by one digit should differ in colour. */
function hue(name) {
  let hash = 0x811c9dc5;
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
  return hash % 360;
}

/** The first character of a name, in its colour. */
export function avatar(name) {
  const element = h("span", { class: "avatar", "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "?");
  element.style.setProperty("--hue", hue(name));
  return element;
}

export class Log {
  /** `orders` has `delete(id)`, `kick(user, button)` and `menu(line, button)`. */
  constructor(orders) {
    this.orders = orders;
    this.list = h("ol");
    this.empty = h("div", { class: "empty" });
    // A list of its own: a log's children are no list items.
    this.element = h("div", { class: "messages", role: "log", "aria-label": "Messages", tabindex: "0" }, this.list);
    this.newer = h("button", { class: "newer", type: "button", hidden: true, onclick: () => this.toEnd() });
    // Lines of messages by their ids, and lines that wait to be shown.
    this.lines = new Map();
    this.waiting = [];
    this.timer = 0;
    this.unseen = 0;
    this.lastTime = "";
    this.recent = [];
    // Whether new lines are followed: until somebody scrolls up.
    this.follows = true;
    this.element.addEventListener("scroll", () => {
      this.follows = this.isAtEnd();
      if (this.follows) this.seen();
    });
    new ResizeObserver(() => this.follows && this.toEnd()).observe(this.element);
    this.list.addEventListener("click", (event) => this.#press(event.target.closest("button")));
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.#hold();
  }

  /** A message, `own` if this viewer's user sent it, `isOlder` if it was said before this viewer came; whether it is shown now. */
  message(frame, { own, isOlder = false }) {
    if (this.lines.has(frame.Id)) return false;
    const user = frame.Sender.UserId;
    const time = new Date(frame.SendTime);
    const shown = time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const name = h("span", { class: "sender" }, user);
    name.style.setProperty("--hue", hue(user));
    const line = h(
      "li",
      { class: [own && "own", isOlder && "older"].filter(Boolean).join(" "), tabindex: "-1", "data-id": frame.Id, "data-user": user },
      avatar(user),
      h("p", {}, name, " ", h("span", { class: "content" }, frame.Content)),
      h("time", { datetime: frame.SendTime, title: time.toLocaleString() }, shown === this.lastTime ? "" : shown),
      h(
        "span",
        { class: "tools" },
        h("button", { class: "delete", type: "button", tabindex: "-1", "aria-label": `Delete message of ${user}` }, "Delete"),
        h("button", { class: "kick", type: "button", tabindex: "-1", "aria-label": `Kick ${user}` }, "Kick"),
        h("button", { class: "more", type: "button", tabindex: "-1", "aria-haspopup": "menu", "aria-expanded": "false", "aria-label": `More about ${user}` }, icon("more")),
      ),
    );
    this.lastTime = shown;
    this.lines.set(frame.Id, line);
    this.#append(line);
    return true;
  }

  /** What is no message; its line. `kind` is a class, `tag` says who sees it, `actions` are buttons. */
  note(text, { kind = "", tag, actions = [] } = {}) {
    const words = h("p", {}, text, ...(tag ? [" ", h("span", { class: "tag" }, tag)] : []));
    const line = h("li", { class: `note ${kind}` }, words, ...actions);
    this.#append(line);
    return line;
  }

  /** There is nothing more to do about a note: its tag says why. */
  settle(line, why) {
    if (!line) return;
    if (line.contains(document.activeElement)) this.element.focus();
    for (const button of line.querySelectorAll("button")) button.remove();
    line.querySelector(".tag").textContent = why;
  }

  /** Says something of a message beside its text; nothing: not any more. */
  tag(id, text) {
    const line = this.lines.get(id);
    line?.querySelector(".tag")?.remove();
    if (text) line?.querySelector("p").append(" ", h("span", { class: "tag" }, text));
  }

  /** A line between what was and what is. */
  divider(text) {
    this.#append(h("li", { class: "divider" }, h("span", {}, text)));
  }

  /** Messages whose lines are meant are gone; how many. */
  removeWhere(isMeant, why) {
    const meant = [...this.lines.values()].filter((line) => !line.classList.contains("deleted") && isMeant(line));
    for (const line of meant) this.remove(line.dataset.id, why || "removed");
    return meant.length;
  }

  /** A message is gone; its line says why. */
  remove(id, why) {
    const line = this.lines.get(id);
    if (!line) return;
    line.classList.add("deleted");
    line.querySelector(".content").textContent = why || "deleted";
    line.querySelector(".tools")?.remove();
    this.tag(id, "");
  }

  /** What stands in place of messages until there are any. */
  set placeholder(elements) {
    this.empty.replaceChildren(...elements);
  }

  toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
    this.seen();
  }

  isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  seen() {
    this.unseen = 0;
    this.newer.hidden = true;
  }

  #append(line) {
    this.waiting.push(line);
    if (this.waiting.length > LINES_KEPT) this.#forget(this.waiting.shift());
    this.timer ||= setTimeout(() => this.#show(), SHOW_MS);
  }

  #show() {
    this.timer = 0;
    this.#readOut(this.waiting.length);
    this.empty.hidden = true;
    this.unseen += this.waiting.length;
    this.list.append(...this.waiting.splice(0));
    while (this.list.childElementCount > LINES_KEPT) {
      this.#forget(this.list.firstElementChild);
      this.list.firstElementChild.remove();
    }
    if (this.follows) {
      this.toEnd();
    } else {
      this.newer.textContent = `${this.unseen} new ↓`;
      this.newer.hidden = false;
    }
  }

  #forget(line) {
    this.lines.delete(line.dataset.id);
  }

  /** A log is read out by screen readers, but a storm is not. */
  #readOut(lines) {
    const now = performance.now();
    this.recent.push(...Array(lines).fill(now));
    this.recent = this.recent.filter((at) => now - at < 1000).slice(-LINES_KEPT);
    this.element.setAttribute("aria-live", this.recent.length > READ_OUT_PER_SECOND ? "off" : "polite");
  }

  // -- moderation: on hover, focus, or a long press --

  #press(button) {
    const line = button?.closest("li");
    if (!line) return;
    if (button.matches(".lift")) return;
    if (button.matches(".more")) {
      const { id, user } = line.dataset;
      line.classList.add("held");
      const text = line.querySelector(".content").textContent;
      return this.orders.menu({ id, user, text, own: line.classList.contains("own") }, button);
    }
    if (button.matches(".delete")) this.orders.delete(line.dataset.id);
    if (button.matches(".kick")) this.orders.kick(line.dataset.user, button);
    line.classList.remove("held");
    // The button goes with the message: the focus would fall off the page.
    if (line.contains(document.activeElement)) this.#focus(line.nextElementSibling ?? line.previousElementSibling ?? line);
  }

  #key(event) {
    const lines = [...this.list.children].filter((line) => line.hasAttribute("tabindex"));
    const current = event.target.closest?.("li");
    if (lines.length === 0 || event.target.matches("button")) return;
    const next = current ? roving(lines, event, current) : event.key === "ArrowUp" && lines.at(-1);
    if (!next) return;
    event.preventDefault();
    // A log has ends: nobody looks for its first line behind its last one.
    const wraps = { ArrowDown: lines.at(-1), ArrowUp: lines[0] }[event.key];
    if (current && current === wraps) return;
    this.#focus(next);
  }

  /** One line's tools are in the tab order: that of the line with the focus. */
  #focus(line) {
    for (const button of this.list.querySelectorAll("[tabindex='0']")) button.tabIndex = -1;
    for (const button of line.querySelectorAll("button")) button.tabIndex = 0;
    line.focus();
  }

  #hold() {
    let timer = 0;
    const release = () => clearTimeout(timer);
    this.list.addEventListener("pointerdown", (event) => {
      const line = event.target.closest("li");
      for (const held of this.list.querySelectorAll(".held")) if (held !== line) held.classList.remove("held");
      if (event.pointerType === "mouse" || !line) return;
      timer = setTimeout(() => line.classList.add("held"), HOLD_MS);
    });
    for (const end of ["pointerup", "pointercancel", "pointermove"]) this.list.addEventListener(end, release);
  }
}
