// The official chat client against a real server: what users see.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { SendEventCommand, UpdateRoomCommand } from "@aws-sdk/client-ivschat";
import { DeleteMessageRequest, DisconnectUserRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

import { Server, refusal, until, within } from "./harness.mjs";

describe("chat with the official client", () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server.stop());

  test("a message reaches everybody, and the sender's promise resolves with the same one", async () => {
    const arn = await server.room();
    const [alice, bob] = [await server.join(arn, "alice"), await server.join(arn, "bob")];
    const start = Date.now();
    const sent = await within(alice.send("héllo 🔥"));
    await until(() => bob.messages.length && alice.messages.length, "both hear it");
    assert.equal(sent.content, "héllo 🔥");
    assert.equal(sent.sender.userId, "alice");
    assert.match(sent.id, /^[a-zA-Z0-9]{12}$/);
    const time = sent.sendTime.getTime();
    assert.ok(start - 1_000 <= time && time <= Date.now() + 1_000, `${time} in ${start} to ${Date.now()}`);
    assert.deepEqual(bob.messages, [sent]);
    assert.deepEqual(alice.messages, [sent]);
    alice.leave();
    bob.leave();
    assert.deepEqual(alice.states, ["connecting", "connect", "disconnect:clientDisconnect"]);
  });

  test("attributes of message and sender arrive", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice", { attributes: { name: "Älice", badge: "mod" } });
    const bob = await server.join(arn, "bob");
    const sent = await within(alice.send("hi", { sticker: "🔥", empty: "" }));
    await until(() => bob.messages.length, "bob hears it");
    assert.deepEqual(bob.messages[0].attributes, { sticker: "🔥", empty: "" });
    assert.deepEqual(bob.messages[0].sender.attributes, { name: "Älice", badge: "mod" });
    assert.deepEqual(bob.messages[0], sent);
    const plain = await within(bob.send("no attributes"));
    assert.equal(plain.attributes, undefined);
    assert.deepEqual(plain.sender.attributes, {});
    alice.leave();
    bob.leave();
  });

  test("every viewer sees one order, with several senders on several connections", async () => {
    const arn = await server.room();
    await server.api.send(new UpdateRoomCommand({ identifier: arn, maximumMessageRatePerSecond: 100 }));
    const viewers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => server.join(arn, `viewer${index}`)),
    );
    const senders = await Promise.all(
      Array.from({ length: 5 }, (_, index) => server.join(arn, `sender${index}`)),
    );
    // 90 messages in one burst: below the room's 100 a second, interleaved as the kernel likes.
    const sent = await within(
      Promise.all(senders.flatMap((one, s) => Array.from({ length: 18 }, (_, i) => one.send(`${s}-${i}`)))),
    );
    assert.equal(new Set(sent.map((message) => message.id)).size, 90);
    for (const member of [...viewers, ...senders]) {
      await until(() => member.messages.length === 90, "all 90 arrive");
      assert.deepEqual(
        member.messages.map((message) => message.id),
        viewers[0].messages.map((message) => message.id),
      );
    }
    for (let s = 0; s < 5; s++) {
      const own = viewers[0].messages.filter((message) => message.sender.userId === `sender${s}`);
      assert.deepEqual(
        own.map((message) => message.content),
        Array.from({ length: 18 }, (_, i) => `${s}-${i}`),
        "a sender's messages stay in its order",
      );
    }
    const times = viewers[0].messages.map((message) => message.sendTime.getTime());
    assert.deepEqual(times, [...times].sort((a, b) => a - b));
    for (const member of [...viewers, ...senders]) member.leave();
  });

  test("a room spread over all shards still has one order", async () => {
    // 700 members: above the number from which a room's members are spread over the shards.
    const arn = await server.room();
    const tokens = await server.mint(arn, 700);
    const heard = tokens.map(() => []);
    const sockets = [];
    for (const [index, token] of tokens.entries()) {
      const socket = new WebSocket(server.url, token);
      socket.on("message", (data) => heard[index].push(JSON.parse(data).Id));
      sockets.push(new Promise((open, fail) => socket.on("open", () => open(socket)).on("error", fail)));
      if (index % 50 === 49) await Promise.all(sockets.slice(-50));
    }
    const open = await Promise.all(sockets);
    const senders = await Promise.all([1, 2, 3, 4].map((n) => server.join(arn, `sender${n}`)));
    const sent = await within(
      Promise.all(senders.flatMap((one) => Array.from({ length: 20 }, (_, i) => one.send(`m${i}`)))),
      15_000,
    );
    assert.equal(sent.length, 80);
    await until(() => heard.every((ids) => ids.length === 80), "80 to each of 700", 20_000);
    for (const ids of heard) assert.deepEqual(ids, heard[0]);
    for (const socket of open) socket.terminate();
    for (const one of senders) one.leave();
  });

  test("rooms do not hear each other", async () => {
    const [here, there] = [await server.room(), await server.room()];
    const alice = await server.join(here, "alice");
    const bob = await server.join(there, "bob");
    await within(alice.send("here only"));
    await within(bob.send("there only"));
    assert.deepEqual(alice.messages.map((message) => message.content), ["here only"]);
    assert.deepEqual(bob.messages.map((message) => message.content), ["there only"]);
    alice.leave();
    bob.leave();
  });

  test("a deletion is announced to all and resolves the moderator's promise", async () => {
    const arn = await server.room();
    const moderator = await server.join(arn, "mod");
    const viewer = await server.join(arn, "viewer", { capabilities: [] });
    const message = await within(moderator.send("bad"));
    const done = await within(moderator.room.deleteMessage(new DeleteMessageRequest(message.id, "spam")));
    await until(() => viewer.deletions.length, "the viewer is told");
    assert.equal(viewer.deletions[0].messageId, message.id);
    assert.equal(viewer.deletions[0].reason, "spam");
    assert.equal(viewer.deletions[0].id, done.id);
    assert.deepEqual(viewer.deletions[0].attributes, {
      MessageID: message.id,
      MessageId: message.id,
      Reason: "spam",
    });
    const silent = await within(moderator.room.deleteMessage(new DeleteMessageRequest(message.id)));
    assert.equal(silent.attributes.Reason, "");
    moderator.leave();
    viewer.leave();
  });

  test("a disconnect is announced to all; every connection of the user ends for good", async () => {
    const arn = await server.room();
    const moderator = await server.join(arn, "mod");
    const viewer = await server.join(arn, "viewer");
    const [first, second] = [await server.join(arn, "troll"), await server.join(arn, "troll")];
    const done = await within(moderator.room.disconnectUser(new DisconnectUserRequest("troll", "rude")));
    assert.equal(done.userId, "troll");
    for (const member of [moderator, viewer, first, second]) {
      await until(() => member.disconnections.length, "everybody is told");
      assert.equal(member.disconnections[0].id, done.id);
      assert.equal(member.disconnections[0].reason, "rude");
    }
    for (const target of [first, second]) {
      await until(() => target.room.state === "disconnected", "the target is out");
      assert.deepEqual(target.states, ["connecting", "connect", "disconnect:serverDisconnect"]);
      assert.equal(target.tokens, 1, "it did not come back by itself");
    }
    await within(viewer.send("peace"));
    const again = await server.join(arn, "troll");
    await within(again.send("a kick is no ban"));
    for (const member of [moderator, viewer, again]) member.leave();
  });

  test("an application event arrives under the id that the API returned", async () => {
    const arn = await server.room();
    const viewer = await server.join(arn, "viewer", { capabilities: [] });
    const { id } = await server.api.send(
      new SendEventCommand({ roomIdentifier: arn, eventName: "app:goal", attributes: { by: "9" } }),
    );
    await until(() => viewer.events.length, "the event arrives");
    assert.equal(viewer.events[0].id, id);
    assert.equal(viewer.events[0].eventName, "app:goal");
    assert.deepEqual(viewer.events[0].attributes, { by: "9" });
    viewer.leave();
  });

  test("each action needs its capability: ERROR 403", async () => {
    const arn = await server.room();
    const viewer = await server.join(arn, "viewer", { capabilities: [] });
    const others = await server.join(arn, "other");
    for (const attempt of [
      () => viewer.send("may I"),
      () => viewer.room.deleteMessage(new DeleteMessageRequest("AAAAAAAAAAAA")),
      () => viewer.room.disconnectUser(new DisconnectUserRequest("other")),
    ]) {
      const error = await refusal(attempt());
      assert.equal(error.errorCode, 403);
      assert.ok(error.errorMessage);
    }
    await within(others.send("still here"));
    assert.equal(others.messages.length, 1);
    assert.equal(viewer.room.state, "connected");
    viewer.leave();
    others.leave();
  });

  test("a message above the room's length is refused with the sentence applications compare", async () => {
    const arn = await server.room({ maximumMessageLength: 10 });
    const alice = await server.join(arn, "alice");
    const error = await refusal(alice.send("🔥".repeat(11)));
    assert.equal(error.errorCode, 400);
    assert.equal(error.errorMessage, "Message exceeds maximum length");
    const sent = await within(alice.send("🔥".repeat(10)));
    assert.equal(sent.content, "🔥".repeat(10));
    alice.leave();
  });

  test("attributes of 1 KiB pass; above it they are refused and the connection stays", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice");
    const fits = { key: "v".repeat(1024 - 3) };
    assert.deepEqual((await within(alice.send("x", fits))).attributes, fits);
    for (const attributes of [{ key: "v".repeat(1024 - 2) }, { key: "v".repeat(15_000) }]) {
      const error = await refusal(alice.send("x", attributes));
      assert.equal(error.errorCode, 413);
      assert.ok(error.errorMessage);
    }
    await within(alice.send("still here"));
    assert.deepEqual(alice.states, ["connecting", "connect"]);
    alice.leave();
  });

  test("a message beyond any legal size ends the connection, and only its own", async () => {
    const arn = await server.room();
    const [alice, bob] = [await server.join(arn, "alice"), await server.join(arn, "bob")];
    // Nobody reads 132 KB to find its RequestId: this promise stays open, the connection does not.
    void alice.send("x".repeat(132_000));
    await until(() => alice.room.state === "disconnected", "alice is out");
    assert.deepEqual(alice.states, ["connecting", "connect", "disconnect:serverDisconnect"]);
    await within(bob.send("undisturbed"));
    assert.equal(bob.messages.length, 1);
    bob.leave();
  });

  test("a token opens one connection; the client gives up after four refusals", async () => {
    const arn = await server.room();
    const token = await server.token(arn, "alice");
    const first = await server.join(arn, "alice", { provider: async () => token });
    const second = server.member(arn, "alice", { provider: async () => token });
    second.room.connect();
    await until(() => second.room.state === "disconnected" && second.states.length > 1, "it gives up");
    assert.deepEqual(second.states, ["connecting", "disconnect:socketError"]);
    assert.equal(second.tokens, 4);
    await within(first.send("undisturbed"));
    first.leave();
  });

  test("a refused token is followed by a good one on the client's own retry", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice", {
      provider: async (attempt) => (attempt < 3 ? { token: "garbage" } : server.token(arn, "alice")),
    });
    assert.equal(alice.tokens, 3);
    await within(alice.send("in at last"));
    alice.leave();
  });

  test("frames are text: the client logs no parsing error", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice");
    const kinds = [];
    const raw = new WebSocket(server.url, (await server.token(arn, "raw")).token);
    raw.on("message", (_, binary) => kinds.push(binary));
    await new Promise((open) => raw.on("open", open));
    await within(alice.send("x"));
    await until(() => kinds.length, "the raw client hears it");
    assert.deepEqual(kinds, [false]);
    assert.deepEqual(alice.logs, []);
    raw.terminate();
    alice.leave();
  });

  test("a paste that is far too long is refused, and the next message arrives", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice");
    for (const size of [17_000, 100_000]) {
      const refused = await refusal(alice.send("x".repeat(size)));
      assert.equal(refused.errorCode, 413);
      assert.equal((await within(alice.send(`after ${size}`))).content, `after ${size}`);
    }
    assert.deepEqual(alice.states, ["connecting", "connect"], "the same connection");
    alice.leave();
  });

  test("text cut through an emoji arrives with a replacement character", async () => {
    const arn = await server.room();
    const alice = await server.join(arn, "alice");
    const sent = await within(alice.send("fire 🔥".slice(0, -1)));
    assert.equal(sent.content, "fire \ufffd");
    alice.leave();
  });
});
