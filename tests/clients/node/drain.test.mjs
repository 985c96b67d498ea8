// Official clients behind HAProxy and nginx, configured as docs/proxies.md says, while their server is drained: each
// moves to the server beside it with one new token, and sees no `disconnect`.
//
// Both servers begin with the same rooms and sealing keys (a copied data directory), so that either's tokens are valid
// at both. Viewers are counted by what they do: one that asks for its second token has just lost its connection.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import readline from "node:readline";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { Server, binary, directory, freePort, until } from "./harness.mjs";

const CLIENTS = Number(process.env.DRAIN_CLIENTS ?? 300);
const OVER_S = Number(process.env.DRAIN_OVER_S ?? 10);
/** Long enough for a load balancer that checks once a second, on a machine that does other things. */
const NOTICE_S = 10;
/** Rooms of a hundred or more: in smaller ones chance alone is a large share. */
const ROOMS = Math.min(10, Math.floor(CLIENTS / 100));
const SHARDS = 2;
/** How far behind the pace the shards of a busy machine may be. */
const LAG_S_MAX = OVER_S / 4;
const PAGE = readFileSync(new URL("../../../docs/proxies.md", import.meta.url), "utf8").split("## Load balancers")[1];
const PROGRAMS = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` };

const [everybody, processes] = [[], []];
after(() => {
  // After a failure, too: a client that is left goes on trying.
  for (const member of everybody) member.leave();
  for (const process of processes) if (process.exitCode === null) process.kill("SIGTERM");
});

/** The page's block in a language, with these servers for those it names. */
function block(language, a, b) {
  const [, text] = PAGE.match(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "s"));
  const here = [
    ["10.0.0.5:8080 port 8081", `127.0.0.1:${a.messagingPort} port ${a.controlPort}`],
    ["10.0.0.6:8080 port 8081", `127.0.0.1:${b.messagingPort} port ${b.controlPort}`],
    ["10.0.0.5:8080", `127.0.0.1:${a.messagingPort}`],
    ["10.0.0.6:8080", `127.0.0.1:${b.messagingPort}`],
  ];
  return here.reduce((text, [there, here]) => text.replace(there, here), text);
}

/** A proxy's process, once it listens. */
async function run(program, args, port) {
  const child = spawn(program, args, { env: PROGRAMS, stdio: ["ignore", "inherit", "inherit"] });
  processes.push(child);
  await until(async () => {
    assert.equal(child.exitCode, null, `${program} ended`);
    const probe = net.connect(port, "127.0.0.1");
    const opened = await once(probe, "connect").then(() => true, () => false);
    probe.destroy();
    return opened;
  }, `${program} listens`);
  return child;
}

class HAProxy {
  static async start(a, b) {
    const proxy = new HAProxy();
    const [home, port] = [directory(), await freePort()];
    proxy.url = `ws://127.0.0.1:${port}`;
    proxy.statistics = path.join(home, "statistics");
    const file = path.join(home, "haproxy.cfg");
    writeFileSync(
      file,
      `global\n stats socket ${proxy.statistics}\n maxconn ${2 * CLIENTS + 100}\n` +
        "defaults\n timeout connect 5s\n timeout client 90s\n timeout server 90s\n" +
        `frontend viewers\n mode http\n bind 127.0.0.1:${port}\n default_backend uproar\n${block("haproxy", a, b)}`,
    );
    await run("haproxy", ["-db", "-f", file], port);
    // It gets its name after the port listens.
    await until(() => existsSync(proxy.statistics), "HAProxy's own socket");
    await proxy.sees({ b: "DOWN" });
    return proxy;
  }

  /** Waits until its checks say so of the servers. */
  async sees(wanted) {
    await until(async () => {
      const socket = net.connect(this.statistics).setEncoding("utf8");
      socket.write("show stat\n");
      let text = "";
      for await (const part of socket) text += part;
      const [head, ...lines] = text.trim().split("\n").map((line) => line.split(","));
      const status = (name) => lines.find((line) => line[1] === name)[head.indexOf("status")];
      return Object.entries(wanted).every(([name, value]) => status(name) === value);
    }, `HAProxy sees ${JSON.stringify(wanted)}`);
  }

  joined = () => this.sees({ a: "UP", b: "UP" });
  /** Its checks read `/readyz`. */
  leave = () => this.sees({ a: "DOWN", b: "UP" });
}

class Nginx {
  static async start(a, b) {
    const proxy = new Nginx();
    const [home, port] = [directory(), await freePort()];
    proxy.url = `ws://127.0.0.1:${port}`;
    proxy.file = path.join(home, "nginx.conf");
    const own = "access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; ";
    const servers = block("nginx", a, b).replace("listen 80;", `listen 127.0.0.1:${port};`);
    proxy.configuration =
      `daemon off; worker_processes 2; pid ${home}/pid; error_log ${home}/log;\n` +
      `events { worker_connections ${2 * CLIENTS + 100}; }\n` +
      `http { ${own}uwsgi_temp_path u; scgi_temp_path s;\n${servers}}\n`;
    proxy.server = `server 127.0.0.1:${a.messagingPort}`;
    writeFileSync(proxy.file, proxy.configuration);
    proxy.arguments = ["-p", home, "-e", `${home}/log`, "-c", proxy.file];
    proxy.process = await run("nginx", proxy.arguments, port);
    return proxy;
  }

  joined = async () => {};

  workers = () => readFileSync(`/proc/${this.process.pid}/task/${this.process.pid}/children`, "utf8").trim().split(" ");

  /** What the page has an operator do: it checks nothing itself. */
  async leave() {
    const before = this.workers();
    writeFileSync(this.file, this.configuration.replace(`${this.server};`, `${this.server} down;`));
    await promisify(execFile)("nginx", [...this.arguments, "-s", "reload"], { env: PROGRAMS });
    const isNew = (pid) => !before.includes(pid);
    await until(() => this.workers().filter(isNew).length === 2, "new workers");
    // The old ones stop accepting, and keep the connections that they have.
    const title = (pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8");
    await until(() => this.workers().every((pid) => isNew(pid) || title(pid).includes("shutting down")), "old ones");
  }
}

/** A server that a failure does not leave behind. */
async function start(options) {
  const server = await Server.start(options);
  processes.push(server.process);
  return server;
}

/** Server a with rooms, and what b will begin with. */
async function servers() {
  const first = await start();
  const rooms = [];
  for (let i = 0; i < ROOMS; i++) rooms.push(await first.room());
  await first.stop();
  const copy = directory();
  cpSync(first.dataDir, copy, { recursive: true, filter: (file) => !file.endsWith(".sock") });
  const a = await start({ dataDir: first.dataDir });
  const b = { dataDir: copy, messagingPort: await freePort(), controlPort: await freePort() };
  return { a, b, rooms };
}

/** Clients in their rooms. Every second one has its tokens in hand, the others ask b's API for the second. */
async function crowd(site, url, cut) {
  const { a, rooms } = site;
  const members = [];
  const hands = await Promise.all(rooms.map((arn) => a.mint(arn, 2 * Math.ceil(CLIENTS / ROOMS), "--capability", "SEND_MESSAGE")));
  for (let i = 0; i < CLIENTS; i++) {
    const hand = hands[i % ROOMS].splice(0, 2);
    const provider = async (attempt) => {
      if (attempt === 2) cut(i);
      return attempt > 1 && i % 2 ? site.b.token(rooms[i % ROOMS], `u${i}`) : { token: hand.pop() };
    };
    const member = Server.prototype.member(rooms[i % ROOMS], `u${i}`, { url, provider });
    members.push(member);
    everybody.push(member);
    member.room.connect();
    if (i % 50 === 49) await until(() => members.every(({ room }) => room.state === "connected"), "they connect");
  }
  await until(() => members.every(({ room }) => room.state === "connected"), "all are connected");
  return members;
}

/** Viewers of a server. */
async function connections(server) {
  const { text } = await server.page("/metrics");
  const open = Array.from(text.matchAll(/^uproar_shard_connections\{.*\} (\d+)$/gm), ([, n]) => Number(n));
  return open.reduce((sum, n) => sum + n);
}

/** `uproar drain --wait`: its lines, and its end. */
function drain(server) {
  const lengths = ["--over", `${OVER_S}s`, "--notice", `${NOTICE_S}s`];
  const child = spawn(binary, ["drain", "--data-dir", server.dataDir, ...lengths, "--wait", "--json"]);
  const order = { lines: [], errors: "" };
  readline.createInterface({ input: child.stdout }).on("line", (line) => order.lines.push(JSON.parse(line)));
  child.stderr.on("data", (part) => (order.errors += part));
  order.ended = once(child, "close").then(([code]) => code);
  return order;
}

/**
 * No cut comes before its time: not during the notice, and never faster than the pace. A slow machine sees cuts
 * later, which this allows, and sends the order later, which it allows, too.
 */
function assertPace(cuts, sent) {
  cuts.forEach((at, before) => {
    const seconds = (at - sent) / 1000 - NOTICE_S;
    assert.ok(seconds >= 0, `cut ${before} comes ${-seconds} s before the notice is over`);
    const most = (CLIENTS * seconds) / OVER_S + SHARDS;
    assert.ok(before + 1 <= most, `${before + 1} were cut by ${seconds} s, and the pace allows ${most}`);
  });
}

/** Nor do they come late, by the server's own clock. */
function assertProgress(lines) {
  const reports = lines.filter(({ state }) => state);
  const noticed = reports.filter(({ state }) => state === "noticed");
  assert.ok(noticed.length > 0);
  for (const { cut, left } of noticed) assert.deepEqual([cut, left], [0, CLIENTS]);
  const cutting = reports.filter(({ state }) => state === "cutting");
  assert.ok(cutting.length > 1);
  for (const { elapsed_ms, cut } of cutting) {
    const least = (CLIENTS * (elapsed_ms / 1000 - LAG_S_MAX)) / OVER_S;
    assert.ok(cut >= least, `${cut} were cut in ${elapsed_ms} ms, ${least} at least are due`);
  }
  return cutting.map(({ elapsed_ms, cut }) => `${elapsed_ms}: ${cut}`).join(", ");
}

/** At half time no room has lost much more than the others: its people still talk to each other. */
function assertThin(left) {
  const mean = left.reduce((sum, share) => sum + share) / left.length;
  for (const share of left) assert.ok(share >= mean / 2, `${left}`);
}

for (const Proxy of [HAProxy, Nginx]) {
  test(`${CLIENTS} clients move to the server beside theirs, through ${Proxy.name}`, async (context) => {
    const site = await servers();
    const { a, rooms } = site;
    const proxy = await Proxy.start(a, site.b);
    const cuts = [];
    let atHalf;
    const left = () => {
      const there = Array(ROOMS).fill(0);
      members.forEach(({ tokens }, i) => (there[i % ROOMS] += tokens === 1));
      return there;
    };
    const members = await crowd(site, proxy.url, () => {
      cuts.push(performance.now());
      if (cuts.length === Math.floor(CLIENTS / 2)) atHalf = left();
    });
    assert.equal(await connections(a), CLIENTS, "all are at a");
    const b = (site.b = await start(site.b));
    await proxy.joined();
    const sent = performance.now();
    const order = drain(a);
    await until(() => order.lines.some(({ state }) => state === "noticed"), `it is noticed: ${order.errors}`);
    assert.equal((await a.page("/readyz")).status, 503);
    await proxy.leave();
    assert.equal(cuts.length, 0, "the load balancer knows before the first cut");
    assert.equal(await order.ended, 0, order.errors);
    assert.equal(await a.exited, 0, a.output);
    await until(() => members.every(({ states }) => states.length >= 4), "each is back, or gave up");
    const stories = new Set(members.map(({ states, tokens }) => `${states} with ${tokens} tokens`));
    assert.deepEqual([...stories], ["connecting,connect,connecting,connect with 2 tokens"]);
    assert.equal(cuts.length, CLIENTS);
    assertPace(cuts, sent);
    context.diagnostic(`cut by the server's clock, ms: ${assertProgress(order.lines)}`);
    context.diagnostic(`left in the rooms at half time: ${atHalf}`);
    assertThin(atHalf);
    await Promise.all(members.slice(0, ROOMS).map((member, room) => member.send(`to ${room}`)));
    await until(() => members.every(({ messages }) => messages.length === 1), "all hear it");
    members.forEach(({ messages }, i) => assert.equal(messages[0].content, `to ${i % ROOMS}`));
    for (const member of members) member.leave();
    await b.stop();
  });
}
