// Pictures as lines of SVG: every system draws them alike, with or without a font that has them.

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  heart: "M12 20s-7.5-4.6-7.5-10.2A4.3 4.3 0 0 1 12 7.2a4.3 4.3 0 0 1 7.5 2.6C19.5 15.4 12 20 12 20z",
  fire: "M12 21c-3.9 0-6.5-2.6-6.5-6.2 0-2.8 1.8-4.6 3.1-6.3.4 1.5 1.1 2.2 2 2.7C10.6 8 11.5 5 14.2 3c0 3.8 4.3 6.3 4.3 11.4C18.5 18.3 15.9 21 12 21z",
  star: "M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1.1 5.9-5.3-2.9-5.3 2.9 1.1-5.9-4.3-4.1 5.9-.8z",
  laugh: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM7.5 13.5h9c-.3 2.7-2.2 4.3-4.5 4.3s-4.2-1.6-4.5-4.3zM8.3 10.2c.3-1.2 1.9-1.2 2.2 0M13.5 10.2c.3-1.2 1.9-1.2 2.2 0",
  pin: "M9 4h6l-.7 5.5 3.2 3.5h-11l3.2-3.5zM12 13v7",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  close: "M7 7l10 10M17 7L7 17",
  tune: "M5 7h8M17 7h2M5 17h2M11 17h8M15 4.8v4.4M9 14.8v4.4",
  check: "M5 12.5l4.5 4.5L19 7.5",
};

/** The picture of this name; none: there is no such picture. */
export function icon(name) {
  const path = PATHS[name];
  if (!path) return null;
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ class: `icon ${name}`, viewBox: "0 0 24 24", "aria-hidden": "true" })) svg.setAttribute(key, value);
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
