// The unit of `deploy/` under a real systemd (systemd_manager.py), and a crowd of official clients: SIGKILL, then
// `systemctl restart`, and nobody serves for 5 s each time. Every client is back with exactly one new token.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

import { CLIENTS, CrowdServer, crowd, hearAll, killed, leave } from "./kept.mjs";

const AWAY_SECONDS = 5;
const credentials = { accessKeyId: "AKIDSYSTEMD000000000", secretAccessKey: "a-secret-of-this-test-and-of-no-server" };

/** A server that systemd starts, whose descriptor store keeps its listening sockets. */
class UnitServer extends CrowdServer {
  /** The unit stays away by itself. */
  awayMs = 0;
  credentials = credentials;

  static async make() {
    const server = new UnitServer();
    await server.keep("systemd_manager.py");
    const configuration = `
      server.data_dir = "/run/uproar/data"
      server.shards = 2
      messaging.listen = "127.0.0.1:${server.messagingPort}"
      control.listen = "127.0.0.1:${server.controlPort}"
      quotas.profile = "open"
      [[keys]]
      id = "${credentials.accessKeyId}"
      secret = "${credentials.secretAccessKey}"
    `;
    const { root } = await server.order({ install: configuration });
    server.dataDir = path.join(root, "data");
    server.log = () => readFileSync(path.join(root, "log"), "utf8").slice(-5000);
    await server.begin();
    await server.order({ away: AWAY_SECONDS });
    return server;
  }

  async begin() {
    const { pid } = await this.order({ start: null });
    assert.notEqual(pid, this.pid, this.log());
    this.pid = pid;
    this.api = this.client();
  }

  async kill(signal) {
    // The old one's idle connections die with the server, but may be used before that is noticed.
    this.api = this.client();
    await this.order(signal === undefined ? { kill: null } : { restart: null });
  }

  async end() {
    const { result } = await this.order({ stop: null });
    assert.equal(result, "success", this.log());
    this.keeper.stdin.end();
  }
}

test(`${CLIENTS} clients come back from a kill and from \`systemctl restart\``, async () => {
  const server = await UnitServer.make();
  const members = await crowd(server, CLIENTS, { spares: 3 });
  await killed(server, members);
  assert.equal(await server.figure("listeners_inherited"), 3);
  await killed(server, members, { times: 2, signal: 15 });
  assert.equal(await server.figure("listeners_inherited"), 3);
  await hearAll(members);
  await leave(server, members);
});
