// The server as a whole: drain, reload, upgrade; its certificate, log destinations and what should be changed.

import { card, confirmed, el, facts, note } from "./dom.js";
import { bytes, date, duration, whole } from "./format.js";

const LOOK_MS = 5000;

export function operations(scene) {
  const { api, every, attempt, figures, signal } = scene;
  const warnings = el("div");
  const certificate = el("div");
  const logs = el("div");
  const about = el("div");
  const destinations = el("ul", { class: "plain" });
  const cluster = el("div");
  const drain = drainCard(scene);
  every(LOOK_MS, () => attempt(async () => {
    const server = await api.call("GetServer");
    if (signal.aborted) return;
    const { stats } = figures;
    warnings.replaceChildren(warningsOf(server));
    certificate.replaceChildren(certificateOf(server.certificate));
    drain.preview(server.drain);
    about.replaceChildren(facts([
      ["Version", `${server.version} (${server.commit})`],
      ["Process", String(server.pid)],
      ["Up", duration(stats.uptimeMs)],
      ["I/O", server.io === "io_uring" ? "io_uring" : `${server.io}${server.ioUringRefused ? `: ${server.ioUringRefused}` : ""}`],
      ["Shards", whole(server.shards)],
      ["Viewers, at most", whole(server.viewersMax)],
      ["Open files, at most", server.openFilesMax && whole(server.openFilesMax)],
      ["Taken over", server.takeOvers.takenOver ? `${whole(server.takeOvers.carried)} viewers, pause ${Math.round(server.takeOvers.pauseS * 1000)} ms` : null],
    ]));
    cluster.replaceChildren(...clusterOf(stats));
    logs.replaceChildren(...logsOf(server.logs));
  }));
  every(6 * LOOK_MS, () => attempt(async () => {
    const { loggingConfigurations: all } = await api.call("ListLoggingConfigurations");
    destinations.replaceChildren(...all.map((one) =>
      el("li", {}, el("span", {}, one.name || one.id), el("span", { class: "muted" }, destinationOf(one)),
        el("span", { class: `badge ${one.state === "ACTIVE" ? "good" : "warn"}` }, one.state.toLowerCase()))));
    if (!all.length) destinations.replaceChildren(el("li", { class: "empty" }, "No logging configuration exists."));
  }));
  return [
    el("h1", {}, "Operations"),
    el("div", { class: "columns" },
      drain.element,
      card("Reload", el("p", {}, "Takes the configuration file, certificates and keys over, all or nothing. Nobody is disconnected."),
        el("button", { onclick: () => reload(scene) }, "Reload")),
      card("Upgrade", el("p", {}, "Hands everything over to a new process of the installed program. Viewers stay connected."),
        el("button", { onclick: () => upgrade(scene) }, "Upgrade")),
      card("Warnings", warnings),
      card("Certificate", certificate),
      card("Chat logs", destinations, logs),
      card("Server", about),
      ...(figures.stats.cluster ? [card("Cluster", cluster)] : [])),
  ];
}

function drainCard(scene) {
  const { api, attempt, figures } = scene;
  const state = el("p", { role: "status" });
  const plan = el("p", { class: "muted small" });
  const notice = el("input", { name: "notice", type: "number", min: 0, max: 86400, placeholder: "as configured" });
  const over = el("input", { name: "over", type: "number", min: 0, max: 86400, placeholder: "as configured" });
  const go = el("button", { class: "danger" }, "Drain and stop");
  const cancel = el("button", { type: "button", hidden: true, onclick: () => attempt(() => api.call("CancelDrain"), "The drain is cancelled: the server serves on.") }, "Cancel the drain");
  const form = el("form", {},
    el("div", { class: "pair" }, el("label", {}, "Notice, s", notice), el("label", {}, "Cut over, s", over)), plan,
    el("div", { class: "row" }, go, cancel));
  const seconds = (input, name) => (input.value === "" ? {} : { [name]: Number(input.value) });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const detail = "All viewers are disconnected, so that they reconnect elsewhere. Then the server stops, and this page with it.";
    if (!(await confirmed("Drain this server?", { detail, action: "Drain", typed: "drain" }))) return;
    attempt(async () => {
      const begun = await api.call("DrainServer", { ...seconds(notice, "noticeSeconds"), ...seconds(over, "overSeconds") });
      note(`${whole(begun.viewers)} viewers are asked to leave, over ${duration(begun.overS * 1000)}.`);
    });
  });
  const show = () => {
    const { stats, isLost } = figures;
    if (!stats) return;
    const isServing = stats.state === "serving";
    state.textContent = isLost ? "The server does not answer." : isServing ? `Serving ${whole(stats.viewers)} viewers.` : `Draining (${stats.state}): ${whole(stats.viewers)} viewers are left.`;
    go.disabled = !isServing;
    cancel.hidden = isServing;
  };
  figures.follow(show);
  show();
  return {
    element: card("Drain", state, form),
    preview: (told) => {
      plan.textContent = told.refused ?? (told.overS
        ? `By the configuration: notice ${told.noticeS} s, then ${whole(told.perSecond ?? 0)} viewers a second for ${told.overS} s.`
        : "By the configuration: all at once.");
    },
  };
}

/** What this node knows of its cluster; nothing for a server alone. */
function clusterOf({ cluster }) {
  if (!cluster) return [];
  return [
    facts([
      ["This node", cluster.node],
      ["Cluster", cluster.name],
      ["Nodes live", whole(cluster.nodes)],
      ["Home of", `${whole(cluster.slotsHome)} of ${whole(cluster.slots)} hash slots`],
    ]),
    cluster.unready ? el("p", { class: "warning" }, cluster.unready) : el("p", { class: "muted" }, "In step with its cluster."),
  ];
}

const reload = ({ api, attempt }) =>
  attempt(async () => {
    const { changes } = await api.call("ReloadServer");
    const told = changes.map((change) => `${change.key}: ${change.text}`);
    note(told.length ? `Reloaded. ${told.join("; ")}` : "Reloaded: nothing has changed.");
  });

async function upgrade({ api, attempt, figures, signal }) {
  const detail = "The page goes on with the new process. If it cannot take over, this one serves on.";
  if (!(await confirmed("Upgrade this server?", { detail, action: "Upgrade" }))) return;
  const { pid } = figures.stats;
  const before = (await api.call("GetServer").catch(() => null))?.takeOvers;
  if (!(await attempt(() => api.call("UpgradeServer"), "The upgrade has begun."))) return;
  for (let look = 0; look < 60 && !signal.aborted; look += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (figures.stats.pid !== pid) {
      note(`Process ${figures.stats.pid} serves, with ${whole(figures.stats.viewers)} viewers.`);
      return;
    }
    const now = (await api.call("GetServer").catch(() => null))?.takeOvers;
    if (now && before && (now.refused > before.refused || now.rolledBack > before.rolledBack)) break;
  }
  if (!signal.aborted) note("The old process serves on; the server's log says why.", true);
}

function warningsOf(server) {
  if (!server.warnings.length) return el("p", {}, `None: this machine carries ${whole(server.viewersMax)} viewers, as far as can be seen.`);
  return el("ul", { class: "warnings" }, server.warnings.map((finding) =>
    el("li", {}, el("strong", {}, finding.check), el("span", {}, ` is ${finding.found}, needed is ${finding.needed}. `), el("span", { class: "muted" }, finding.reason))));
}

function certificateOf(told) {
  if (!told) return el("p", {}, "The listeners speak no TLS; a proxy may do it for them.");
  const of = [told.messaging && "messaging", told.control && "control"].filter(Boolean).join(" and ");
  return el("div", {},
    told.warning && el("p", { class: "warning" }, told.warning),
    facts([["Names", told.names], ["Valid from", told.notBefore && date(told.notBefore)], ["Valid to", told.notAfter && date(told.notAfter)], ["Listeners", of]]));
}

const KINDS = { s3: "S3", cloudwatch: "CloudWatch Logs", firehose: "Firehose" };

const logsOf = (logs) => logs.filter((log) => log.spooled || log.backlog || log.errors).map((log) =>
  el("div", {}, el("h3", {}, KINDS[log.kind] ?? log.kind), facts([
    ["Delivered", `${whole(log.delivered)} of ${whole(log.spooled)} records`],
    ["Waiting", `${whole(log.backlog)} records, ${bytes(log.spoolBytes)}`],
    ["Dropped", whole(log.dropped)],
    ["Failed requests", whole(log.errors)],
  ])));

function destinationOf({ destinationConfiguration: { s3, cloudWatchLogs, firehose } = {} }) {
  if (s3) return `S3 ${s3.bucketName}`;
  if (cloudWatchLogs) return `CloudWatch Logs ${cloudWatchLogs.logGroupName}`;
  return firehose ? `Firehose ${firehose.deliveryStreamName}` : "";
}
