// The server speaks, as the official chat client hears it: messages of a back end, and events for one user.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Server, until } from "./harness.mjs";

describe("what a back end says", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  test("a message is an ordinary one, and an event for bob is heard by bob's clients alone", async () => {
    const arn = await server.room();
    const bobs = [await server.join(arn, "bob"), await server.join(arn, "bob")];
    const eve = await server.join(arn, "eve");
    const won = { roomIdentifier: arn, userId: "bob", eventName: "shop:won", attributes: { prize: "rose" } };
    assert.deepEqual(await server.call("SendUserEvent", won), { connections: 2 });
    const sender = { userId: "shop", attributes: { badge: "b" } };
    const said = await server.call("SendMessage", { roomIdentifier: arn, content: "bob has won", sender });
    for (const client of [...bobs, eve]) {
      await until(() => client.messages.length === 1, "the message comes");
      const [message] = client.messages;
      assert.deepEqual([message.id, message.content, message.sender.userId], [said.id, "bob has won", "shop"]);
      assert.deepEqual(message.sender.attributes, { badge: "b" });
      assert.equal(message.sendTime.toISOString(), new Date(said.sendTime).toISOString());
    }
    for (const bob of bobs) {
      await until(() => bob.events.length > 0, "the event comes");
      assert.deepEqual(bob.events.map((event) => [event.eventName, event.attributes.prize]), [["shop:won", "rose"]]);
    }
    assert.deepEqual(eve.events, []);
    await server.call("SendMessage", { roomIdentifier: arn, content: "x".repeat(501), sender }, 400);
    assert.deepEqual(await server.call("SendUserEvent", { ...won, userId: "nobody" }), { connections: 0 });
  });
});
