// The official client and a server whose listening sockets somebody keeps, as systemd does (descriptor_store.py): it is
// killed, nobody serves for seconds, and every client is back with exactly one new token, without `disconnect`.
//
// Half of the clients ask the API for their token, and wait at the control listener; the others have one in hand and
// wait at the messaging listener.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Server, binary, directory, freePort, until } from "./harness.mjs";

const CLIENTS = Number(process.env.KEPT_CLIENTS ?? 1000);
const ROOMS = 20;
/** Nobody serves for so long; connects begin their second retransmission. */
const AWAY_MS = 3000;
/** Retransmissions of a connect double, so those that a short queue drops take their time. */
const BACK_MS_MAX = 300_000;
/** How long a greedy caller asks. */
const ASK_MS = 3000;
const MAY_SEND = ["--capability", "SEND_MESSAGE"];
const STORE = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../python/descriptor_store.py");

const [stores, everybody] = [[], []];
after(() => {
  // After a failure, too: a client that is left goes on trying.
  for (const member of everybody) member.leave();
  for (const store of stores) store.stdin.end();
});

/** A server whose descriptor store outlives it. */
class KeptServer extends Server {
  static async make({ quotas = "open", shards = 2 } = {}) {
    const server = new KeptServer();
    Object.assign(server, { quotas, shards, dataDir: directory() });
    [server.messagingPort, server.controlPort] = [await freePort(), await freePort()];
    server.logFile = path.join(server.dataDir, "log.txt");
    server.store = spawn("python3", [STORE], { stdio: ["pipe", "pipe", "inherit"] });
    stores.push(server.store);
    server.said = [];
    server.answers = [];
    readline.createInterface({ input: server.store.stdout }).on("line", (line) => {
      const event = JSON.parse(line);
      (event.said ? server.said : server.answers).push(event.said ?? event);
    });
    await server.begin();
    return server;
  }

  /** Gives the store an order, and returns its answer. */
  async order(order) {
    const before = this.answers.length;
    this.store.stdin.write(`${JSON.stringify(order)}\n`);
    await until(() => this.answers.length > before, JSON.stringify(order));
    return this.answers[before];
  }

  async begin() {
    const ready = () => this.said.filter((message) => message.READY).length;
    const before = ready();
    const start = [
      ...[binary, "dev", "--messaging-listen", `127.0.0.1:${this.messagingPort}`],
      ...["--control-listen", `127.0.0.1:${this.controlPort}`, "--data-dir", this.dataDir],
      ...["--shards", String(this.shards), "--quotas", this.quotas],
    ];
    await this.order({ start, log: this.logFile });
    this.url = `ws://127.0.0.1:${this.messagingPort}`;
    this.controlUrl = `http://127.0.0.1:${this.controlPort}`;
    this.api = this.client();
    await until(() => ready() > before, `READY=1: ${this.log()}`);
  }

  /** SIGKILL, or another signal; nobody serves until `begin`. */
  async kill(signal = 9) {
    // The old one's idle connections die with the server, but may be used before that is noticed.
    this.api = this.client();
    await this.order({ end: signal });
  }

  /** A new room's ARN, also under the managed service's five a second. */
  async patientRoom() {
    for (;;) {
      try {
        return await this.room();
      } catch (error) {
        if (error.name !== "ThrottlingException") throw error;
        await sleep(100);
      }
    }
  }

  log = () => readFileSync(this.logFile, "utf8").slice(-5000);

  async figure(name) {
    const { text } = await this.page("/metrics");
    return Number(text.match(new RegExp(`^uproar_${name} (\\d+)$`, "m"))[1]);
  }

  /** Waits until the server has noted that it holds so many viewers: that is what the next start reads. */
  noted = (viewers) =>
    until(
      () => readFileSync(path.join(this.dataDir, "heartbeat")).readBigUInt64LE() === BigInt(viewers),
      `${viewers} viewers are noted`,
    );

  async end() {
    const { ended } = await this.order({ end: 15 });
    assert.equal(ended, 0, this.log());
    this.store.stdin.end();
  }
}

/** Clients in their rooms. All first tokens are made offline, and of the later ones those of every second client. */
async function crowd(server, count, { spares = 1, everyoneAsks = false } = {}) {
  const rooms = [];
  for (let i = 0; i < ROOMS; i++) rooms.push(await server.patientRoom());
  const minted = [];
  for (const arn of rooms) minted.push(await server.mint(arn, Math.ceil(count / ROOMS) * (1 + spares), ...MAY_SEND));
  const members = [];
  for (let i = 0; i < count; i++) {
    const [arn, own] = [rooms[i % ROOMS], minted[i % ROOMS].splice(0, 1 + spares)];
    const asks = everyoneAsks || i % 2 === 0;
    // Without the times of a token: their timers would outlive a client that asked twice, and this process with them.
    const provider = async (attempt) =>
      attempt > 1 && asks ? { token: (await server.token(arn, `u${i}`)).token } : { token: own.pop() };
    const member = server.member(arn, `u${i}`, { provider });
    member.room.connect();
    members.push(member);
    everybody.push(member);
    // A rush of first connects is another test's subject.
    if (i % 100 === 99) await until(() => members.every(({ room }) => room.state === "connected"), "they connect");
  }
  await until(() => members.every(({ room }) => room.state === "connected"), "all are connected");
  return members;
}

/**
 * Kills the server, lets `meanwhile` happen while all knock, and starts it again; they were killed `times` times
 * then, and each of them must have come back each time, now with one token. A server that stops in order still takes
 * calls while it cuts viewers: those that its end breaks off are made once more.
 */
async function killed(server, members, { times = 1, signal, meanwhile = async () => {} } = {}) {
  const before = members.map(({ tokens }) => tokens);
  const asked = (member, index) => member.tokens - before[index];
  await server.noted(members.length);
  await server.kill(signal);
  await until(() => members.every((member, index) => asked(member, index) > 0), "all want another token");
  await meanwhile();
  await sleep(AWAY_MS);
  await server.begin();
  const over = ({ states }) => states.length >= 2 * times + 2;
  await until(() => members.every(over), "each is back, or gave up", BACK_MS_MAX);
  const most = signal === undefined ? 1 : 2;
  const seen = new Map();
  for (const [index, member] of members.entries()) {
    const count = asked(member, index);
    const story = `${member.states} with ${count <= most ? "a token" : `${count} tokens`}`;
    seen.set(story, (seen.get(story) ?? 0) + 1);
  }
  const story = Array(times + 1).fill("connecting,connect");
  assert.deepEqual([...seen], [[`${story} with a token`, members.length]]);
}

async function leave(server, members) {
  for (const member of members) member.leave();
  await server.end();
}

test(`${CLIENTS} clients come back from a kill, and all of them hear the next message`, async () => {
  const server = await KeptServer.make();
  const members = await crowd(server, CLIENTS);
  await killed(server, members);
  assert.equal(await server.figure("listeners_inherited"), 3);
  await Promise.all(members.slice(0, ROOMS).map((member, room) => member.send(`to ${room}`)));
  await until(() => members.every(({ messages }) => messages.length === 1), "all hear it");
  members.forEach(({ messages }, i) => assert.equal(messages[0].content, `to ${i % ROOMS}`));
  await leave(server, members);
});

test("a queue that is far too short only delays them", async () => {
  const server = await KeptServer.make();
  const members = await crowd(server, CLIENTS / 4);
  await killed(server, members, { meanwhile: () => server.order({ backlog: 32 }) });
  await leave(server, members);
});

test("they come back to more shards, and to fewer", async () => {
  const server = await KeptServer.make({ shards: 1 });
  const members = await crowd(server, CLIENTS / 4, { spares: 2 });
  for (const [times, shards] of [
    [1, 3],
    [2, 1],
  ]) {
    server.shards = shards;
    await killed(server, members, { times });
  }
  await leave(server, members);
});

test(`quotas of the managed service: ${CLIENTS} clients get tokens at once, and then the rate holds`, async () => {
  const server = await KeptServer.make({ quotas: "aws" });
  const members = await crowd(server, CLIENTS, { everyoneAsks: true });
  await killed(server, members);
  assert.equal(await server.figure("token_credit_total"), CLIENTS);
  assert.equal(await server.figure("token_credit_left"), 0);
  const arn = await server.patientRoom();
  const began = performance.now();
  let [granted, refused] = [0, 0];
  while (performance.now() - began < ASK_MS) {
    // A thousand a second, as far as this process gets.
    const asked = Array.from({ length: 50 }, () => server.token(arn, "greedy"));
    for (const { status, reason } of await Promise.allSettled(asked)) {
      if (status === "fulfilled") granted += 1;
      else if (reason.name === "ThrottlingException") refused += 1;
      else throw reason;
    }
    await sleep(Math.max(0, (granted + refused) - (performance.now() - began)));
  }
  const seconds = (performance.now() - began) / 1000;
  assert.ok(granted <= 200 + 200 * seconds + 1, `${granted} in ${seconds} s`);
  assert.ok(refused > 0 || granted < 200 * seconds, `none of ${granted} was refused in ${seconds} s`);
  // A stop in order: some ask the server that ends, and the others the next one.
  await killed(server, members, { times: 2, signal: 15 });
  await leave(server, members);
});
