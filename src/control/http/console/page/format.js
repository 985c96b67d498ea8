// Numbers as people read them.

const grouped = new Intl.NumberFormat("en");

/** 12,345. */
export const whole = (number) => (number === null || number === undefined ? "–" : grouped.format(Math.round(number)));

/** At most four digits: 987, 12.3k, 4.56M. */
export function short(number) {
  if (number === null || number === undefined) return "–";
  let scaled = number;
  for (const unit of ["", "k", "M", "G", "T"]) {
    if (Math.abs(scaled) < 999.5) {
      const digits = unit === "" ? (scaled % 1 && scaled < 10 ? 1 : 0) : scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
      return scaled.toFixed(digits) + unit;
    }
    scaled /= 1000;
  }
  return `${scaled.toFixed(0)}P`;
}

/** 1.50 MB. */
export const bytes = (number) => {
  const [, digits, unit] = short(number).match(/^([\d.–-]+)(.*)$/);
  return `${digits} ${unit}B`;
};

/** Microseconds as the largest unit that is below them. */
export function micros(number) {
  if (number === null || number === undefined) return "–";
  if (number < 1000) return `${Math.round(number)} µs`;
  return number < 1e6 ? `${(number / 1000).toFixed(number < 1e5 ? 1 : 0)} ms` : `${(number / 1e6).toFixed(1)} s`;
}

/** 3 d 4 h, 5 min 6 s. */
export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

/** The time of day of a message. */
export const clock = (text) => {
  const at = new Date(text);
  return Number.isNaN(at.valueOf()) ? "" : at.toLocaleTimeString("en-GB");
};

/** A date with its time, as the reader's clock has it. */
export const date = (text) => {
  const at = new Date(text);
  return Number.isNaN(at.valueOf()) ? text : at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
};

/** What a room is called. */
export const roomName = (room) => room.name || room.id;
