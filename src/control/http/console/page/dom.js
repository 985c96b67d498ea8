// What the console's views are made of.

import { el, svg } from "./element.js";

export { el, svg };

const ICONS = {
  overview: "M3 12h4l3-8 4 16 3-8h4",
  rooms: "M4 5h16v11H9l-5 4z",
  users: "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM2 21c0-4 3-6 7-6s7 2 7 6M16 4a4 4 0 0 1 0 7M18 15c2.5.7 4 2.5 4 6",
  operations: "M4 7h10M18 7h2M4 17h2M10 17h10M14 4v6M6 14v6",
  back: "M15 5l-7 7 7 7",
  out: "M14 4H5v16h9M10 12h11M17 8l4 4-4 4",
};

/** A drawn sign, which says nothing to those who do not see it. */
export const icon = (name) =>
  svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }));

/** A card: a heading and what is below. */
export const card = (title, ...children) =>
  el("section", { class: "card" }, el("h2", {}, title), ...children);

/** Rows of a name and a value. */
export const facts = (pairs) =>
  el("dl", { class: "facts" },
    pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [
      el("dt", {}, name),
      el("dd", {}, value),
    ]));

/** Says something for some seconds; a bad thing stays longer. */
export function note(text, isBad = false) {
  const line = el("p", { class: isBad ? "note bad" : "note" }, text);
  document.getElementById("notes").append(line);
  setTimeout(() => line.remove(), isBad ? 12_000 : 5_000);
}

/** Asks before something that cannot be undone; with `typed` the text must be typed in. Resolves to yes or no. */
export function confirmed(question, { detail = "", action, typed = "" }) {
  const input = typed && el("input", { name: "typed", autocomplete: "off", spellcheck: "false" });
  const go = el("button", { class: "danger", value: "yes", disabled: Boolean(typed) }, action);
  if (input) input.addEventListener("input", () => (go.disabled = input.value !== typed));
  const dialog = el("dialog", { "aria-labelledby": "question" },
    el("form", { method: "dialog" },
      el("h2", { id: "question" }, question),
      detail && el("p", {}, detail),
      input && el("label", {}, el("span", {}, "Type ", el("strong", {}, typed), " to confirm"), input),
      el("menu", {}, el("button", { value: "no", formnovalidate: true }, "Cancel"), go)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    }));
}
