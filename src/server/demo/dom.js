// Elements, by script: text from outside becomes text nodes, never markup.

export { el as h } from "./element.js";

export const byId = (id) => document.getElementById(id);
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

export const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

/** What a page of this server says; its refusals become errors with the server's text, `final` if asking again is in vain. */
export async function ask(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error("Server not reachable.");
  }
  if (!answer.ok) {
    const text = (await answer.text()).trim();
    throw Object.assign(new Error(text), { final: answer.status < 500 });
  }
  return answer.json();
}

/** Arrow keys, Home and End move the focus among `items`, of which one is in the tab order. */
export function roving(items, event, chosen) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const from = items.indexOf(chosen);
  if (event.key === "Home") return items[0];
  if (event.key === "End") return items.at(-1);
  return step && items[(from + step + items.length) % items.length];
}
