// The official client and a server whose listening sockets somebody keeps, as systemd does (descriptor_store.py): it is
// killed, nobody serves for seconds, and every client is back with exactly one new token, without `disconnect`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { binary, directory, until } from "./harness.mjs";
import { CLIENTS, CrowdServer, crowd, hearAll, killed, leave } from "./kept.mjs";

/** How long a greedy caller asks. */
const ASK_MS = 3000;

/** A server whose descriptor store outlives it. */
class KeptServer extends CrowdServer {
  static async make({ quotas = "open", shards = 2 } = {}) {
    const server = new KeptServer();
    Object.assign(server, { quotas, shards, dataDir: directory() });
    server.logFile = path.join(server.dataDir, "log.txt");
    await server.keep("descriptor_store.py");
    await server.begin();
    return server;
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
    this.api = this.client();
    await until(() => ready() > before, `READY=1: ${this.log()}`);
  }

  /** SIGKILL, or another signal; nobody serves until `begin`. */
  async kill(signal = 9) {
    // The old one's idle connections die with the server, but may be used before that is noticed.
    this.api = this.client();
    await this.order({ end: signal });
  }

  log = () => readFileSync(this.logFile, "utf8").slice(-5000);

  async end() {
    const { ended } = await this.order({ end: 15 });
    assert.equal(ended, 0, this.log());
    this.keeper.stdin.end();
  }
}

test(`${CLIENTS} clients come back from a kill, and all of them hear the next message`, async () => {
  const server = await KeptServer.make();
  const members = await crowd(server, CLIENTS);
  await killed(server, members);
  assert.equal(await server.figure("listeners_inherited"), 3);
  await hearAll(members);
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
