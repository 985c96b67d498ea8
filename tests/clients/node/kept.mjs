// Crowds of official clients whose server goes away and comes back behind listening sockets that somebody keeps: every
// client is back with exactly one new token, without `disconnect`.
//
// Half of the clients ask the API for their token, and wait at the control listener; the others have one in hand and
// wait at the messaging listener.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Server, freePort, until } from "./harness.mjs";

export const CLIENTS = Number(process.env.KEPT_CLIENTS ?? 1000);
export const ROOMS = 20;
/** Retransmissions of a connect double, so those that a short queue drops take their time. */
const BACK_MS_MAX = 300_000;
const PROGRAMS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../python");
const MAY_SEND = ["--capability", "SEND_MESSAGE"];

const everybody = [];
// After a failure, too: a client that is left goes on trying.
after(() => everybody.forEach((member) => member.leave()));

const keepers = [];
after(() => keepers.forEach((keeper) => keeper.stdin.end()));

/** A server that a keeper of its listening sockets starts and ends: `kill` and `begin` ask the keeper. */
export class CrowdServer extends Server {
  /** Nobody serves for so long between the two; connects begin their second retransmission. */
  awayMs = 3000;
  said = [];
  answers = [];

  /** Starts the keeper, a program that takes orders as lines of JSON and answers each with one. */
  async keep(program) {
    [this.messagingPort, this.controlPort] = [await freePort(), await freePort()];
    this.url = `ws://127.0.0.1:${this.messagingPort}`;
    this.controlUrl = `http://127.0.0.1:${this.controlPort}`;
    this.keeper = spawn("python3", [path.join(PROGRAMS, program)], { stdio: ["pipe", "pipe", "inherit"] });
    keepers.push(this.keeper);
    readline.createInterface({ input: this.keeper.stdout }).on("line", (line) => {
      const event = JSON.parse(line);
      (event.said ? this.said : this.answers).push(event.said ?? event);
    });
  }

  /** Gives the keeper an order, and returns its answer. */
  async order(order) {
    const before = this.answers.length;
    this.keeper.stdin.write(`${JSON.stringify(order)}\n`);
    await until(() => this.answers.length > before, JSON.stringify(order));
    return this.answers[before];
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
}

/** Clients in their rooms. All first tokens are made offline, and of the later ones those of every second client. */
export async function crowd(server, count, { spares = 1, everyoneAsks = false } = {}) {
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
export async function killed(server, members, { times = 1, signal, meanwhile = async () => {} } = {}) {
  const before = members.map(({ tokens }) => tokens);
  const asked = (member, index) => member.tokens - before[index];
  await server.noted(members.length);
  await server.kill(signal);
  await until(() => members.every((member, index) => asked(member, index) > 0), "all want another token");
  await meanwhile();
  await sleep(server.awayMs);
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

export async function leave(server, members) {
  for (const member of members) member.leave();
  await server.end();
}

/** A message to each room, which all of its clients hear. */
export async function hearAll(members) {
  await Promise.all(members.slice(0, ROOMS).map((member, room) => member.send(`to ${room}`)));
  await until(() => members.every(({ messages }) => messages.length === 1), "all hear it");
  members.forEach(({ messages }, i) => assert.equal(messages[0].content, `to ${i % ROOMS}`));
}
