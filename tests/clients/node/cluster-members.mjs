// Official chat clients for a trial of a cluster, run by cluster_members.py. The first line of the input says where the
// doors and the rooms are and how many clients come; they chat until the line `quiet`, and the line `finish` says each
// room's last message: when all have it, what each of them heard is printed.

import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { IvschatClient } from "@aws-sdk/client-ivschat";

import { Server, until } from "./harness.mjs";

const SAY_EVERY_MS = 2000;
const ANSWER_MS_MAX = 20_000;
const SETTLE_MS_MAX = 90_000;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => JSON.parse((await lines.next()).value);
// Told to the end, before the process leaves.
const say = (value) => new Promise((told) => process.stdout.write(`${JSON.stringify(value)}\n`, told));

const { viewers, api, key, rooms, count } = await next();
const server = new Server();
server.url = `ws://127.0.0.1:${viewers}`;
server.api = new IvschatClient({
  region: "us-west-2",
  endpoint: `http://127.0.0.1:${api}`,
  credentials: key,
  maxAttempts: 5,
});

const halt = { now: false };
const members = [];
for (let n = 0; n < count; n += 1) members.push(member(rooms[n % rooms.length], `sdk${n}`));
await until(() => members.every(isConnected), "all connect", SETTLE_MS_MAX);
const talking = Promise.all(members.map(talk));
await say({ connected: count });

await next();
halt.now = true;
await talking;
await until(() => members.every(isConnected), "all are back", SETTLE_MS_MAX);
await say({ quiet: true });

const { finish } = await next();
await until(() => members.every((m) => m.messages.at(-1)?.id === finish[m.arn]), "all have the last", SETTLE_MS_MAX).catch(
  // Whoever compares what was heard with the log says it better.
  () => undefined,
);
await say(
  members.map((m) => ({
    user: m.user, room: m.arn, tokens: m.tokens, states: m.states, begins: m.begins,
    heard: m.messages.map((message) => message.id), taken: m.taken,
  })),
);
process.exit(0);

function isConnected(m) {
  return m.room.state === "connected";
}

function member(arn, user) {
  // Without times: the client keeps a timer for each token's end.
  const provider = async () => ({ token: (await server.token(arn, user)).token });
  const m = server.member(arn, user, { provider });
  Object.assign(m, { arn, user, begins: [], taken: [] });
  m.room.addListener("connect", () => m.begins.push(m.messages.length));
  m.room.connect();
  return m;
}

async function talk(m, n) {
  await sleep((SAY_EVERY_MS * n) / count);
  for (let i = 0; !halt.now; i += 1) {
    // A promise whose connection ends may never be settled: the official client's way.
    const said = isConnected(m) ? m.send(`${m.user} ${i}`) : Promise.reject(new Error("away"));
    const answer = await Promise.race([said, sleep(ANSWER_MS_MAX, undefined, { ref: false })]).catch(() => undefined);
    if (answer) m.taken.push(answer.id);
    await sleep(SAY_EVERY_MS);
  }
}
