// How a session ends and comes back: lost network, restart, expiry, token refresh.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { DeleteRoomCommand } from "@aws-sdk/client-ivschat";
import { WebSocket } from "ws";

import { Server, flakyProxy, until, within } from "./harness.mjs";

describe("reconnection of the official client", { concurrency: true }, () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server.stop());

  test("a lost network is bridged with a new token", async () => {
    const arn = await server.room();
    const proxy = await flakyProxy(server.messagingPort);
    // Without the expiry: the client never stops the refresh timer of a connection it lost, and an
    // hour's timer would keep this process.
    const provider = async () => ({ token: (await server.token(arn, "alice")).token });
    const alice = await server.join(arn, "alice", { url: proxy.url, provider });
    const bob = await server.join(arn, "bob");
    proxy.cut();
    await until(() => alice.states.length === 4, "alice is back");
    assert.deepEqual(alice.states, ["connecting", "connect", "connecting", "connect"]);
    assert.equal(alice.tokens, 2);
    await within(bob.send("welcome back"));
    await until(() => alice.messages.length === 1, "alice hears it");
    alice.leave();
    bob.leave();
    proxy.close();
  });

  test("a session of one minute ends with ERROR 401; the client comes back with a new token", async () => {
    const arn = await server.room();
    const begun = Date.now();
    const alice = await server.join(arn, "alice", {
      provider: async (attempt) => {
        const { token } = await server.token(arn, "alice", { minutes: attempt === 1 ? 1 : 60 });
        return { token };
      },
    });
    // In a room of its own: the two sessions may end in different seconds, and what alice says when
    // she is back would be heard before the raw one's own ERROR.
    const alone = await server.room();
    const raw = new WebSocket(server.url, (await server.token(alone, "raw", { minutes: 1 })).token);
    const frames = [];
    raw.on("message", (data) => frames.push(JSON.parse(data)));
    const closed = new Promise((done) => raw.on("close", (code, reason) => done([code, `${reason}`])));
    let ended;
    void closed.then(() => (ended = Date.now()));
    await until(() => alice.states.length >= 3, "alice's session ends", 150_000);
    // Ends are whole seconds. A slow machine makes it later, not earlier.
    assert.ok(Date.now() - begun >= 59_000, "the session lives for the minute it was given");
    await until(() => alice.states.length >= 4, "alice is back");
    assert.equal(alice.tokens, 2);
    assert.deepEqual(alice.states, ["connecting", "connect", "connecting", "connect"]);
    await within(alice.send("a new session"));
    const [code, reason] = await within(closed, 150_000);
    assert.ok(ended - begun >= 59_000, "the raw session lives for its minute, too");
    assert.equal(frames.length, 1);
    assert.equal(frames[0].Type, "ERROR");
    assert.equal(frames[0].ErrorCode, 401);
    assert.equal(frames[0].RequestId, "");
    assert.equal(code, 1000);
    assert.equal(JSON.parse(reason).ErrorCode, 401);
    assert.equal(JSON.parse(reason).Type, "ERROR");
    assert.ok(JSON.parse(reason).ErrorMessage);
    alice.leave();
  });

  test("a token that was not used in its time is refused; the client gives up after four attempts", async () => {
    const arn = await server.room();
    const token = await server.token(arn, "late", { minutes: 1 });
    const inTime = await server.join(arn, "inTime", { provider: () => server.token(arn, "inTime") });
    // A session of a minute bounds the token's own life too.
    await sleep(token.tokenExpirationTime - Date.now() + 1_000);
    const late = server.member(arn, "late", { provider: async () => ({ token: token.token }) });
    late.room.connect();
    await until(() => late.states.length === 2, "it gives up");
    assert.deepEqual(late.states, ["connecting", "disconnect:socketError"]);
    assert.equal(late.tokens, 4);
    assert.match((await server.page("/metrics")).text, /rejected_total\{reason="expired_token"\} 4\n/);
    await within(inTime.send("undisturbed"));
    inTime.leave();
  });

  test("a token refresh swaps connections; no message is lost or doubled", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice", {
      // The client refreshes 30 s before the expiry it is told, so two seconds after it connected.
      provider: async () => ({
        token: (await server.token(arn, "alice")).token,
        tokenExpirationTime: new Date(Date.now() + 32_000),
      }),
    });
    const bob = await server.join(arn, "bob");
    let said = 0;
    // Until it has refreshed twice.
    for (; alice.tokens < 3; said++) {
      await within(bob.send(`m${said}`));
      await sleep(80);
    }
    await within(bob.send(`m${said++}`));
    await until(() => alice.messages.length >= said, "all arrive");
    assert.deepEqual(
      alice.messages.map((message) => message.content),
      Array.from({ length: said }, (_, i) => `m${i}`),
    );
    assert.deepEqual(alice.states, ["connecting", "connect"], "the application noticed nothing");
    alice.leave();
    bob.leave();
  });

  test("a deleted room ends its sessions for good", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice");
    await server.api.send(new DeleteRoomCommand({ identifier: arn }));
    await until(() => alice.room.state === "disconnected", "alice is out");
    assert.equal(alice.states.at(-1), "disconnect:serverDisconnect");
  });

  test("whoever sends while the room is deleted hears of its end, and nothing is sent into it", async () => {
    // The client settles what it sent by answers alone, and what reaches the server behind its Close frame can
    // have none (RFC 6455 §5.5.1): such a promise is settled by the disconnect event.
    const own = await Server.start();
    const arn = await own.room();
    const alice = await own.join(arn, "alice");
    const disconnected = new Promise((done) => alice.room.addListener("disconnect", done));
    const sent = [];
    let deleted = false;
    while (alice.room.state === "connected") {
      sent.push(Promise.race([alice.send(`m${sent.length}`), disconnected]));
      if (sent.length === 20) {
        void own.api.send(new DeleteRoomCommand({ identifier: arn })).then(() => (deleted = true));
      }
      await sleep(1);
    }
    await until(() => deleted, "the room is deleted");
    await within(Promise.all(sent));
    assert.equal(alice.states.at(-1), "disconnect:serverDisconnect");
    await assert.rejects(async () => alice.send("into nothing"));
    await own.holds(0, 0);
    const { text } = await own.page("/metrics");
    assert.match(text, /connections_closed_total\{reason="room_deleted"\} 1\n/);
    await own.stop();
  });

  test("a server that stops sends no Close frame, so clients try to come back", async () => {
    const own = await Server.start();
    const arn = await own.room();
    const alice = await own.join(arn, "alice");
    const raw = new WebSocket(own.url, (await own.token(arn, "raw")).token);
    const closed = new Promise((done) => raw.on("close", (code) => done(code)).on("error", () => {}));
    await new Promise((open) => raw.on("open", open));
    await own.stop();
    assert.equal(await within(closed), 1006);
    await until(() => alice.states.at(-1) !== "connect", "alice noticed");
    assert.equal(alice.states[2], "connecting", "it was no final close");
    alice.leave();
  });
});
