// One room whose members sit on both shards: the official client cannot tell.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { DeleteRoomCommand, DisconnectUserCommand, SendEventCommand } from "@aws-sdk/client-ivschat";
import { DeleteMessageRequest, DisconnectUserRequest } from "amazon-ivs-chat-messaging";

import { Server, refusal, until, within } from "./harness.mjs";

describe("a room on two shards", () => {
  let server, arn, members;
  before(async () => {
    // From the second member on, a newcomer goes to the shard with fewer of them.
    server = await Server.start({ environment: { UPROAR_DELIVERY__SPREAD_MEMBERS: "1" } });
    arn = await server.room();
    members = [];
    for (const name of ["a", "b", "c", "d", "troll", "troll"]) members.push(await server.join(arn, name));
    await server.holds(3, 3);
  });
  after(() => server.stop());

  test("every member hears every message in one order, each sender's in the sender's", async () => {
    const bursts = members.map((one, m) => Array.from({ length: 15 }, (_, i) => one.send(`${m}-${i}`)));
    const sent = await within(Promise.all(bursts.flat()));
    await until(() => members.every((one) => one.messages.length === sent.length), "all hear all");
    for (const one of members) assert.deepEqual(one.messages, members[0].messages);
    for (const m of members.keys()) {
      const own = members[0].messages.map(({ content }) => content).filter((text) => text.startsWith(`${m}-`));
      assert.deepEqual(own, Array.from({ length: 15 }, (_, i) => `${m}-${i}`));
    }
  });

  test("a deletion and an event reach both shards behind the message they follow", async () => {
    const [alice, bob] = members;
    const { id } = await within(alice.send("to be deleted"));
    const deleted = await within(bob.room.deleteMessage(new DeleteMessageRequest(id, "spam")));
    const event = await server.api.send(new SendEventCommand({ roomIdentifier: arn, eventName: "app:goal" }));
    for (const one of members) {
      await until(() => one.events.length && one.deletions.length, "everybody is told");
      assert.equal(one.messages.at(-1).id, id);
      assert.deepEqual([one.deletions[0].messageId, one.deletions[0].id], [id, deleted.id]);
      assert.equal(one.events[0].id, event.id);
    }
  });

  test("a room's length and a lacking capability are refused on either shard", async () => {
    const viewers = [];
    for (const name of ["v", "w"]) viewers.push(await server.join(arn, name, { capabilities: [] }));
    await server.holds(4, 4);
    for (const viewer of viewers) {
      assert.equal((await refusal(viewer.send("may I"))).errorCode, 403);
      viewer.leave();
    }
    for (const one of members.slice(0, 2)) {
      const error = await refusal(one.send("x".repeat(501)));
      assert.deepEqual([error.errorCode, error.errorMessage], [400, "Message exceeds maximum length"]);
    }
  });

  test("a kick ends the user's connections on both shards and nobody else's", async () => {
    const trolls = members.splice(4);
    const done = await within(members[0].room.disconnectUser(new DisconnectUserRequest("troll", "rude")));
    for (const one of [...members, ...trolls]) {
      await until(() => one.disconnections.length, "everybody is told");
      assert.deepEqual([one.disconnections[0].id, one.disconnections[0].reason], [done.id, "rude"]);
    }
    for (const troll of trolls) {
      await until(() => troll.room.state === "disconnected", "the troll is out");
      assert.equal(troll.states.at(-1), "disconnect:serverDisconnect");
    }
    await server.api.send(new DisconnectUserCommand({ roomIdentifier: arn, userId: "nobody" }));
    await within(members[1].send("peace"));
    await until(() => members.every((one) => one.messages.at(-1).content === "peace"), "all hear it");
    await server.holds(2, 2);
  });

  test("deleting the room ends the sessions on both shards", async () => {
    await server.api.send(new DeleteRoomCommand({ identifier: arn }));
    for (const one of members) {
      await until(() => one.room.state === "disconnected", "it is out");
      assert.equal(one.states.at(-1), "disconnect:serverDisconnect");
    }
    await server.holds(0, 0);
  });
});
