// The server at a glance: figures of now, and how they came about in the last minutes.

import { Chart } from "./chart.js";
import { card, el } from "./dom.js";
import { bytes, duration, micros, roomName, short, whole } from "./format.js";

const percent = (thousandths) => (thousandths === null || thousandths === undefined ? "–" : `${Math.round(thousandths / 10)} %`);

const charts = () => [
  new Chart("Viewers", [{ key: "viewers", tone: "a" }], short),
  new Chart("Deliveries a second", [{ key: "delivered", tone: "a" }], short),
  new Chart("Fan-out", [{ name: "p50", key: "fanoutP50Us", tone: "a" }, { name: "p99", key: "fanoutP99Us", tone: "b" }], micros),
  new Chart("Messages a second", [{ name: "in", key: "received", tone: "a" }, { name: "refused", key: "refused", tone: "c" }], short),
  new Chart("Load of a shard", [{ name: "mean", key: "loadMean", tone: "a" }, { name: "busiest", key: "loadMax", tone: "b" }], percent, 100),
  new Chart("Network a second", [{ name: "out", key: "bytesSent", tone: "a" }, { name: "in", key: "bytesReceived", tone: "b" }], bytes),
  new Chart("Connections a second", [{ name: "opened", key: "opened", tone: "a" }, { name: "closed", key: "closed", tone: "c" }], short),
  new Chart("Memory", [{ key: "resident", tone: "a" }], bytes),
];

export function overview({ figures, api, every, attempt }) {
  const tiles = el("div", { class: "tiles" });
  const shards = el("tbody");
  const memory = el("div", { class: "bars" });
  const rooms = el("ol", { class: "ranking" });
  const cluster = el("div");
  const drawn = charts();
  const seen = { pid: 0, uptimeMs: 0, shards: [] };
  const show = () => {
    const { stats, samples } = figures;
    if (!stats) return;
    tiles.replaceChildren(...tilesOf(stats, samples.at(-1)));
    shards.replaceChildren(...stats.shards.map((shard, at) => shardRow(shard, seen.shards[at], stats.uptimeMs - seen.uptimeMs)));
    Object.assign(seen, stats);
    memory.replaceChildren(...bars(stats.memory));
    cluster.replaceChildren(...clusterCard(stats));
    drawn.forEach((chart) => chart.draw(samples));
  };
  figures.follow(show);
  every(4000, () => attempt(async () => {
    const found = await api.call("FindRooms", { by: "viewers", maxResults: 8 });
    rooms.replaceChildren(...found.rooms.map((room) =>
      el("li", {}, el("a", { href: `#/room/${encodeURIComponent(room.arn)}` }, roomName(room)),
        el("span", { class: "number" }, `${short(room.viewers)} viewers`),
        el("span", { class: "number muted" }, `${short(room.perMinute)}/min`))));
    if (!found.rooms.length) rooms.replaceChildren(el("li", { class: "empty" }, "There are no rooms yet."));
  }));
  show();
  return [
    el("h1", {}, "Overview"),
    tiles,
    el("div", { class: "charts" }, drawn.map((chart) => chart.element)),
    el("div", { class: "columns" },
      card("Largest rooms", rooms),
      card("Shards", el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shards" },
        el("table", {},
          el("thead", {}, el("tr", {}, ["Shard", "Viewers", "Load"].map((name) => el("th", { scope: "col" }, name)))), shards))),
      card("Memory", memory),
      cluster),
  ];
}

const tile = (name, value, detail, tone = "") =>
  el("div", { class: `tile ${tone}` }, el("span", { class: "name" }, name), el("b", {}, value), el("small", {}, detail));

function tilesOf(stats, sample) {
  const full = stats.viewers / stats.viewersMax;
  return [
    tile("Viewers", whole(stats.viewers), `of ${short(stats.viewersMax)}`, full > 0.9 ? "warn" : ""),
    tile("Rooms", whole(stats.rooms), `${whole(stats.handshakes)} handshakes`),
    tile("Deliveries", `${short(sample?.delivered ?? 0)}/s`, `${short(sample?.received ?? 0)}/s said`),
    tile("Fan-out p99", micros(sample?.fanoutP99Us ?? null), `p50 ${micros(sample?.fanoutP50Us ?? null)}`,
      sample?.fanoutP99Us > 1e6 ? "warn" : ""),
    tile("Busiest shard", percent(sample?.loadMax ?? null), `mean ${percent(sample?.loadMean ?? null)}`,
      sample?.loadMax > 900 ? "warn" : ""),
    tile("Memory", bytes(stats.memory.resident), `up ${duration(stats.uptimeMs)}`),
  ];
}

function shardRow(shard, before, passedMs) {
  const load = before && passedMs > 0 ? Math.min(100, ((shard.cpuMs - before.cpuMs) * 100) / passedMs) : 0;
  return el("tr", {},
    el("th", { scope: "row" }, String(shard.shard)),
    el("td", { class: "number" }, whole(shard.connections)),
    el("td", {}, meter(load, 100, `${Math.max(0, load).toFixed(0)} %`)));
}

const meter = (value, most, text) =>
  el("span", { class: "metered" },
    el("progress", { value: Math.max(0, value), max: most, "aria-label": text }), el("span", { class: "number" }, text));

const AREAS = { resident: "whole process", roomLogs: "room logs", connections: "connections", usedTokens: "used tokens", receiveBuffers: "receive buffers" };

function bars(memory) {
  const most = Math.max(...Object.values(memory), 1);
  const areas = Object.entries(memory).sort(([, one], [, other]) => other - one);
  return areas.map(([area, value]) =>
    el("div", { class: "bar" }, el("span", {}, AREAS[area] ?? area), meter(value, most, bytes(value))));
}

function clusterCard({ cluster }) {
  if (!cluster) return [];
  const state = cluster.unready ? el("p", { class: "warning" }, cluster.unready) : el("p", {}, "All is well.");
  return [card("Cluster", el("p", {}, el("strong", {}, cluster.node), ` in ${cluster.name}: ${cluster.nodes} nodes live`), state)];
}
