// Menus and small boxes that open at a button: by the keyboard as by the mouse, at the bottom edge on a phone.

import { h, roving } from "/demo/dom.js";

const GAP_PX = 4;

/** Opens `box`, a popover, beside `anchor`, and gives the focus back when it closes. */
export function openAt(anchor, box) {
  anchor.closest("section").append(box);
  anchor.setAttribute("aria-expanded", "true");
  box.addEventListener("toggle", ({ newState }) => {
    if (newState !== "closed") return;
    const hadFocus = box.contains(document.activeElement) || document.activeElement === document.body;
    anchor.setAttribute("aria-expanded", "false");
    box.remove();
    if (hadFocus && anchor.isConnected) anchor.focus();
    // A line's tools are there while it has the focus, or is held.
    anchor.closest(".held")?.classList.remove("held");
  });
  box.showPopover();
  place(anchor.getBoundingClientRect(), box);
  box.querySelector("button, select, input")?.focus();
}

/** Within the window: below the button, or above it where there is no room below. */
function place(at, box) {
  const { width, height } = box.getBoundingClientRect();
  const below = at.bottom + GAP_PX;
  const top = below + height <= innerHeight ? below : Math.max(GAP_PX, at.top - GAP_PX - height);
  const left = Math.min(Math.max(GAP_PX, at.right - width), innerWidth - width - GAP_PX);
  box.style.setProperty("--top", `${top}px`);
  box.style.setProperty("--left", `${Math.max(GAP_PX, left)}px`);
}

/** A menu of `items`: text, what it does, and whether it is dangerous. */
export function openMenu(anchor, label, items) {
  const box = h("div", { class: "box menu", popover: "auto", role: "menu", "aria-label": label });
  const buttons = items.map(([text, act, danger]) => {
    const onclick = () => {
      box.hidePopover();
      act();
    };
    return h("button", { type: "button", role: "menuitem", tabindex: "-1", class: danger ? "danger" : "", onclick }, text);
  });
  box.append(h("p", { class: "menu-title", "aria-hidden": "true" }, label), ...buttons);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Tab") return box.hidePopover();
    const next = roving(buttons, event, document.activeElement);
    if (!next) return;
    event.preventDefault();
    // Not the log's keys, too.
    event.stopPropagation();
    next.focus();
  });
  openAt(anchor, box);
}
