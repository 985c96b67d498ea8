// A server that is killed and started again on the same ports and data directory, and the official client: who comes
// back, and when it does not.
//
// The client (amazon-ivs-chat-messaging 1.1) has no pause between its attempts: a lost connection is followed by four,
// each with a new token, as fast as `tokenProvider` answers. So an application's provider has to wait for its server.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, test } from "node:test";

import { Server, until, within } from "./harness.mjs";

const servers = [];
after(() => Promise.all(servers.map((server) => server.stop())));

async function start(options) {
  const server = await Server.start(options);
  servers.push(server);
  return server;
}

/** SIGKILL: nothing is said to anybody. */
async function kill(server) {
  server.process.kill("SIGKILL");
  await server.exited;
  servers.splice(servers.indexOf(server), 1);
}

const again = ({ dataDir, messagingPort, controlPort }) => start({ dataDir, messagingPort, controlPort });

/** Waits until the port accepts, and no longer. */
async function listening(port) {
  await until(async () => {
    const probe = net.connect(port, "127.0.0.1");
    const opened = await Promise.race([
      once(probe, "connect").then(() => true),
      once(probe, "error").then(() => false),
    ]).catch(() => false);
    probe.destroy();
    return opened;
  }, `port ${port} accepts`);
}

test("every client comes back with one new token and hears the next message", async () => {
  let server = await start();
  const rooms = [];
  for (let i = 0; i < 40; i++) rooms.push(await server.room());
  const waiting = new Set();
  const join = async (arn, index) => {
    // Half of them ask the API for a token once it says that it is ready; the others have one in hand, made offline,
    // and knock as soon as somebody listens, before anybody said that the server is ready.
    const [spare] = await server.mint(arn, 1, "--capability", "SEND_MESSAGE");
    const provider = async (attempt) => {
      if (attempt === 1) return { token: (await server.token(arn, `u${index}`)).token };
      waiting.add(index);
      if (index % 2) {
        await listening(server.messagingPort);
        return { token: spare };
      }
      await until(() => server.ready(), "the API is ready");
      return { token: (await server.token(arn, `u${index}`)).token };
    };
    return server.join(arn, `u${index}`, { provider });
  };
  const members = await Promise.all(rooms.map(join));
  await kill(server);
  await until(() => waiting.size === rooms.length, "all ask for a new token while nobody listens");
  server = await again(server);
  await until(() => members.every(({ states }) => states.length === 4), "all are back");
  for (const member of members) {
    assert.deepEqual(member.states, ["connecting", "connect", "connecting", "connect"]);
    assert.equal(member.tokens, 2);
  }
  await Promise.all(members.map((member, index) => within(member.send(`next ${index}`))));
  await until(() => members.every(({ messages }) => messages.length === 1), "all hear it");
  assert.deepEqual(
    members.map(({ messages }) => messages[0].content),
    members.map((_, index) => `next ${index}`),
  );
  for (const member of members) member.leave();
});

test("a client whose tokens come at once gives up at the fourth refused attempt, and connects when asked to", async () => {
  let server = await start();
  const arn = await server.room();
  const tokens = await server.mint(arn, 8);
  const alice = await server.join(arn, "alice", { provider: async () => ({ token: tokens.shift() }) });
  await kill(server);
  await until(() => alice.room.state === "disconnected", "it gives up");
  assert.deepEqual(alice.states, ["connecting", "connect", "connecting", "disconnect:socketError"]);
  assert.equal(alice.tokens, 1 + 4, "four attempts, each with a token of its own");
  server = await again(server);
  alice.room.connect();
  await until(() => alice.room.state === "connected", "it is back");
  assert.equal(alice.tokens, 1 + 4 + 1);
  alice.leave();
});

test("a provider that fails is asked four times at once, and then the client gives up", async () => {
  const server = await start();
  const arn = await server.room();
  const alice = await server.join(arn, "alice", {
    provider: async (attempt) => {
      if (attempt > 1) throw new Error("the application server cannot make a token");
      return { token: (await server.token(arn, "alice")).token };
    },
  });
  await kill(server);
  await until(() => alice.room.state === "disconnected", "it gives up");
  assert.deepEqual(alice.states, ["connecting", "connect", "connecting", "disconnect:fetchTokenError"]);
  assert.equal(alice.tokens, 1 + 4);
});
