// The page of `uproar dev --cluster`: processes above, one viewer for each node below.

import { ask, byId, copyOf, count } from "/demo/dom.js";
import { Viewer } from "/demo/viewer.js";

const STATE_MS = 500;
const TALK_MS = 250;
const NAMES = ["ann", "bob", "eve"];
const NODES = NAMES.length;
const OPTIONS = { 1: "node-1", 2: "node-2", 3: "node-3" };

/** Process id of each node that runs, by its number. */
let running = new Map();

class Member extends Viewer {
  constructor(number) {
    super({
      user: NAMES[number - 1],
      choice: { name: "node", label: "Node", value: String(number), options: OPTIONS },
      ticket: (viewer) => viewer.ticket(),
    });
    // Nodes to leave out: attempts since the last connection.
    this.tries = 0;
    this.heard = null;
    this.silence = 0;
  }

  /** A load balancer's work: the chosen node, or one that runs. */
  async ticket() {
    const chosen = Number(this.joinForm.node.value);
    const all = Array.from({ length: NODES }, (_, i) => ((chosen - 1 + i) % NODES) + 1);
    const usable = all.filter((number) => running.has(number));
    const nodes = usable.length > 0 ? usable : all;
    this.node = nodes[this.tries++ % nodes.length];
    const answer = await ask(`/demo/token?node=${this.node}&user=${encodeURIComponent(this.user)}`);
    return { ...answer, url: `ws://127.0.0.1:${8080 + 100 * (this.node - 1)}` };
  }

  state(name, detail, waitMs) {
    const connected = name === "connected";
    super.state(name, connected ? `connected to node-${this.node}` : detail, waitMs);
    if (connected) {
      this.tries = 0;
      this.joinForm.node.value = String(this.node);
      this.badge.textContent = OPTIONS[this.node];
    }
    // Silence counts for whoever stays connected: the others' node is gone.
    this.heard = null;
  }

  message(frame, roundTripMs) {
    super.message(frame, roundTripMs);
    const now = performance.now();
    if (this.heard !== null && talking) this.silence = Math.max(this.silence, now - this.heard);
    this.heard = now;
  }
}

const viewers = Array.from({ length: NODES }, (_, i) => new Member(i + 1));

// -- processes --

const cards = new Map();

function card(name) {
  if (cards.has(name)) return cards.get(name);
  const element = copyOf("process");
  element.dataset.name = name;
  element.querySelector(".name").textContent = name;
  for (const order of ["stop", "kill", "start"]) {
    element.querySelector(`.${order}`).addEventListener("click", () => give(order, name, element));
  }
  byId("processes").append(element);
  cards.set(name, element);
  return element;
}

/** Orders a process to stop or start; from now on the longest silence is counted anew. */
async function give(order, name, element) {
  for (const viewer of viewers) viewer.silence = 0;
  const answer = await fetch(`/cluster/${order}?${name}`, { method: "POST" });
  const problem = element.querySelector(".problem");
  problem.hidden = answer.ok;
  problem.textContent = answer.ok ? "" : (await answer.text()).trim();
  await refresh();
}

function facts(process, node, broker) {
  if (process.pid === null) return "does not run";
  const all = [`process ${process.pid}`];
  if (node) all.push(node.state, count(node.viewers, "viewer"), `home of ${count(node.slots, "slot")}`);
  if (broker) all.push(broker.version ?? "does not answer");
  if (broker?.leads !== undefined && broker?.leads !== null) all.push(`leads ${count(broker.leads, "stream")}`);
  return all.join(" · ");
}

function show({ processes, status }) {
  running = new Map(processes.filter(({ kind, pid }) => kind === "node" && pid).map(({ number, pid }) => [number, pid]));
  for (const process of processes) {
    const element = card(process.name);
    const node = status?.nodes.find(({ name }) => name === process.name);
    const broker = status?.brokers.find(({ name }) => name === process.name);
    const runs = process.pid !== null;
    element.querySelector(".facts").textContent = facts(process, node, broker);
    element.querySelector(".state").dataset.state = runs ? "connected" : "closed";
    element.querySelector(".home").hidden = !runs || status?.room?.home !== process.name;
    for (const order of ["stop", "kill"]) element.querySelector(`.${order}`).disabled = !runs;
    element.querySelector(".start").disabled = runs;
  }
  const silence = Math.max(...viewers.map((viewer) => viewer.silence));
  const longest = silence > 0 ? `Longest silence in the room: ${(silence / 1000).toFixed(1)} s. ` : "";
  byId("summary").textContent = longest + (status?.advice ?? "No node answers.");
}

async function refresh() {
  try {
    const answer = await fetch("/cluster");
    show(await answer.json());
  } catch {
    byId("summary").textContent = "`uproar dev --cluster` has ended.";
  }
}

// -- talk --

let talking = null;
let said = 0;

byId("talk").addEventListener("click", () => {
  clearInterval(talking);
  talking = talking ? null : setInterval(talk, TALK_MS);
  byId("talk").textContent = talking ? "Let them be quiet" : "Let them talk";
});

/** Whose turn it is says a number. */
function talk() {
  const viewer = viewers[said % NODES];
  said += 1;
  if (viewer.isConnected()) viewer.client.say(String(said));
}

for (const viewer of viewers) byId("viewers").append(viewer.element);
await refresh();
for (const viewer of viewers) viewer.join();
setInterval(refresh, STATE_MS);
