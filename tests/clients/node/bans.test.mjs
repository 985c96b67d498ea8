// Time-outs, bans and shadow bans as the official chat client meets them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { DisconnectUserRequest } from "amazon-ivs-chat-messaging";

import { Server, refusal, until, within } from "./harness.mjs";

const SEND = { capabilities: ["SEND_MESSAGE"] };
const texts = (client) => client.messages.map((message) => message.content);

describe("bans", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  test("a time-out rejects, lets read, and ends", async () => {
    const arn = await server.room();
    const [bob, eve] = [await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND)];
    await server.call("CreateBan", { roomIdentifier: arn, userId: "bob", mode: "timeout", seconds: 3 });
    const refused = await refusal(bob.send("one"));
    assert.equal(refused.errorCode, 403);
    assert.match(refused.errorMessage, /^timed out: [1-3] s left$/);
    await within(eve.send("hello"));
    await until(() => texts(bob).includes("hello"), "bob reads on");
    await until(() => bob.send("two").then(() => true, () => false), "the time-out is over");
  });

  test("a ban disconnects, and the client ends with its token", async () => {
    const arn = await server.room();
    const [bob, eve] = [await server.join(arn, "bob"), await server.join(arn, "eve")];
    await server.call("CreateBan", { roomIdentifier: arn, userId: "bob", mode: "ban", reason: "rude" });
    await until(() => bob.states.includes("disconnect:serverDisconnect"), "bob is disconnected");
    await until(() => eve.disconnections.length > 0, "eve is told");
    assert.equal(eve.disconnections[0].userId, "bob");
    bob.room.connect();
    await until(() => bob.states.includes("disconnect:fetchTokenError"), "there is no token for bob");
    await server.call("DeleteBan", { roomIdentifier: arn, userId: "bob" });
    bob.room.connect();
    await until(() => bob.room.state === "connected", "bob is back");
  });

  test("a shadow's promise resolves, and nobody hears it", async () => {
    const arn = await server.room();
    const [bob, twin, eve] = [
      await server.join(arn, "bob", SEND), await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND),
    ];
    await server.call("CreateBan", { roomIdentifier: arn, userId: "bob", mode: "shadow" });
    const said = await within(bob.send("does anybody hear me?"));
    assert.equal(said.content, "does anybody hear me?");
    await until(() => twin.messages.length === 1, "bob's other client hears it");
    assert.equal(twin.messages[0].id, said.id);
    await within(eve.send("mark"));
    assert.deepEqual(texts(eve), ["mark"]);
    assert.deepEqual([...bob.events, ...twin.events], []);
  });

  test("a shadow waits in slow mode as others do", async () => {
    const arn = await server.room({ tags: { "uproar:slow": "3600", "uproar:state": "off" } });
    const [bob, eve] = [await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND)];
    await server.call("CreateBan", { roomIdentifier: arn, userId: "bob", mode: "shadow" });
    for (const one of [bob, eve]) {
      await within(one.send(`first of ${one === bob ? "bob" : "eve"}`));
      assert.match((await refusal(one.send("second"))).errorMessage, /^slow mode: wait \d+ s$/);
    }
    assert.deepEqual(texts(eve), ["first of eve"]);
  });

  test("the client's own kick bans where the room says so", async () => {
    const arn = await server.room({ tags: { "uproar:kick": "600", "uproar:state": "off" } });
    const [mod, bob] = [await server.join(arn, "mod"), await server.join(arn, "bob", SEND)];
    await within(mod.room.disconnectUser(new DisconnectUserRequest("bob", "out")));
    await until(() => bob.states.includes("disconnect:serverDisconnect"), "bob is disconnected");
    await until(() => mod.events.length > 0, "the moderator is told");
    const { eventName, attributes } = mod.events[0];
    assert.equal(eventName, "uproar:ban");
    assert.deepEqual([attributes.UserId, attributes.Mode, attributes.Reason], ["bob", "ban", "out"]);
    bob.room.connect();
    await until(() => bob.states.includes("disconnect:fetchTokenError"), "there is no token for bob");
  });

  test("a moderator's words", async () => {
    const arn = await server.room({ tags: { "uproar:commands": "slash" } });
    const [mod, bob] = [await server.join(arn, "mod"), await server.join(arn, "bob", SEND)];
    assert.equal((await within(mod.send("/timeout bob 600 spam"))).content, "bob is timed out for 600 s");
    assert.match((await refusal(bob.send("x"))).errorMessage, /^timed out: \d+ s left$/);
    assert.equal((await within(mod.send("/unban bob"))).content, "bob is not banned any more");
    await within(bob.send("thanks"));
    assert.equal((await refusal(mod.send("/unban bob"))).errorCode, 404);
  });
});
