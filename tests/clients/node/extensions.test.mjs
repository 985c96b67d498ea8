// What rooms have beyond IVS Chat, as the official chat client sees it: the state of a room, commands, attributes that nobody
// forges.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { CreateChatTokenCommand } from "@aws-sdk/client-ivschat";
import { DeleteMessageRequest, SendMessageRequest } from "amazon-ivs-chat-messaging";

import { Server, refusal, until, within } from "./harness.mjs";

const stateOf = (client) => client.events.filter((event) => event.eventName === "uproar:room");

describe("rooms beyond IVS Chat", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  test("a moderator's command resolves for her alone, and all learn what is in force", async () => {
    const arn = await server.room({ tags: { "uproar:slow": "5" } });
    const [mod, viewer] = [await server.join(arn, "mod"), await server.join(arn, "viewer", { capabilities: [] })];
    const set = (attributes) => within(mod.send("slower", { "uproar:do": "set", "uproar:key": "slow", ...attributes }));
    const answer = await set({ "uproar:value": "30" });
    assert.equal(answer.attributes["uproar:private"], "1");
    assert.equal(answer.attributes["uproar:result"], "ok");
    assert.equal(answer.content, "slow is 30");
    await until(() => stateOf(viewer).at(-1)?.attributes.Slow === "30", "the viewer is told");
    const late = await server.join(arn, "late");
    await until(() => late.events.length > 0, "the late one is told");
    assert.equal(late.events[0].eventName, "uproar:room");
    assert.deepEqual([late.events[0].id, late.events[0].attributes.Slow], [stateOf(viewer).at(-1).id, "30"]);
    await set({ "uproar:value": "7", "uproar:seconds": "1" });
    await set({});
    await until(() => stateOf(viewer).at(-1)?.attributes.Slow === "5", "the tag counts again");
    const mark = await within(mod.send("mark"));
    await until(() => viewer.messages.length > 0, "the viewer hears the mark");
    assert.deepEqual(viewer.messages.map((message) => message.id), [mark.id]);
  });

  test("a pin is the first that a late one hears, and goes with its message", async () => {
    const arn = await server.room({ tags: { "uproar:history": "10" } });
    const [mod, viewer] = [await server.join(arn, "mod"), await server.join(arn, "viewer", { capabilities: ["SEND_MESSAGE"] })];
    const pin = (client, id) => client.send("pin", { "uproar:do": "pin", "uproar:id": id });
    const said = await within(viewer.send("read me"));
    assert.equal((await refusal(pin(viewer, said.id))).errorCode, 403);
    assert.equal((await within(pin(mod, said.id))).attributes["uproar:result"], "ok");
    await until(() => stateOf(viewer).at(-1).attributes.Pinned === said.id, "the viewer is told");
    const late = await server.join(arn, "late");
    await until(() => late.messages.length === 1, "the late one has the history");
    const [{ eventName, attributes }] = late.events;
    assert.equal(eventName, "uproar:room");
    assert.deepEqual(
      [attributes.Pinned, attributes.PinnedText, attributes.PinnedUser, attributes.PinnedBy],
      [said.id, "read me", "viewer", "mod"],
    );
    await within(mod.room.deleteMessage(new DeleteMessageRequest(said.id, "old")));
    for (const client of [mod, viewer, late]) {
      await until(() => stateOf(client).at(-1).attributes.Pinned === "", "the pin is gone");
      assert.equal(stateOf(client).at(-1).attributes.PinnedText, undefined);
      assert.deepEqual(client.deletions.map(({ messageId }) => messageId), [said.id]);
    }
    const last = await server.join(arn, "last");
    await until(() => last.events.length > 0, "the last one is told");
    assert.equal(last.events[0].attributes.Pinned, "");
    assert.equal((await refusal(pin(mod, said.id))).errorCode, 404);
  });

  test("commands without the capability, unknown ones and forged attributes are refused", async () => {
    const arn = await server.room({ tags: { "uproar:state": "on" } });
    const viewer = await server.join(arn, "viewer", { capabilities: ["SEND_MESSAGE"] });
    const mod = await server.join(arn, "mod");
    const refused = (client, attributes, errorCode, part) =>
      assert.rejects(within(client.send("x", attributes)), (error) => {
        assert.equal(error.errorCode, errorCode);
        assert.match(error.errorMessage, part);
        return true;
      });
    await refused(viewer, { "uproar:do": "set", "uproar:key": "slow" }, 403, /capability/);
    await refused(viewer, { "uproar:private": "1" }, 400, /are the server's/);
    await refused(mod, { "uproar:do": "dance" }, 400, /the commands are set/);
    await within(viewer.send("hello", { mine: "1" }));
    await until(() => mod.messages.length > 0, "the moderator hears the message");
    assert.deepEqual(mod.messages.map((message) => message.content), ["hello"]);
  });

  test("a room without tags takes the same attributes as data", async () => {
    const arn = await server.room();
    const [alice, bob] = [await server.join(arn, "alice"), await server.join(arn, "bob")];
    await within(alice.send("hello", { "uproar:do": "set", "uproar:private": "1" }));
    await until(() => bob.messages.length > 0, "bob hears it");
    assert.deepEqual(bob.messages[0].attributes, { "uproar:do": "set", "uproar:private": "1" });
    assert.deepEqual([alice.events, bob.events], [[], []]);
  });

  test("the command of docs/features.md does what the page says", async () => {
    const page = readFileSync(new URL("../../../docs/features.md", import.meta.url), "utf8");
    const code = page.match(/```js by \.\.\/node\/extensions\.test\.mjs\n([^]*?)```/)[1];
    const mod = await server.join(await server.room({ tags: { "uproar:state": "on" } }), "mod");
    const run = new Function("room", "SendMessageRequest", `return (async () => {${code}})()`);
    await within(run(mod.room, SendMessageRequest));
    const [answer] = mod.messages;
    assert.ok(code.includes(`content "${answer.content}"`), answer.content);
    assert.deepEqual(answer.attributes, { "uproar:do": "set", "uproar:private": "1", "uproar:result": "ok" });
  });

  test("slash commands", async () => {
    const arn = await server.room({ tags: { "uproar:commands": "slash" } });
    const mod = await server.join(arn, "mod");
    const viewer = await server.join(arn, "viewer", { capabilities: ["SEND_MESSAGE"] });
    assert.equal((await within(mod.send("/slow 20"))).content, "slow is 20");
    assert.equal((await within(mod.send("/slowoff"))).content, "slow is off");
    assert.equal((await within(viewer.send("/slow 20"))).content, "/slow 20");
    await until(() => mod.messages.some((message) => message.sender.userId === "viewer"), "all hear a viewer's slash");
    assert.deepEqual(viewer.messages.map((message) => message.content), ["/slow 20"]);
  });

  test("a role is a badge, other attributes of the server's stay with the server", async () => {
    const arn = await server.room({ tags: { "uproar:state": "on" } });
    const attributes = { name: "Al", "uproar:role": "vip", "uproar:hidden": "1", "uproar:since": "1700000000" };
    const alice = await server.join(arn, "alice", { attributes });
    const said = await within(alice.send("hello"));
    assert.deepEqual(said.sender.attributes, { name: "Al", "uproar:role": "vip" });
    const wrong = new CreateChatTokenCommand({
      roomIdentifier: arn, userId: "u", attributes: { "uproar:role": "two words", "uproar:what": "1", "uproar:feed": "full" },
    });
    await assert.rejects(server.client().send(wrong), (error) => {
      assert.equal(error.name, "ValidationException");
      const names = ["attributes.uproar:feed", "attributes.uproar:role", "attributes.uproar:what"];
      assert.deepEqual(error.fieldList.map((field) => field.name).sort(), names);
      assert.match(error.fieldList.find(({ name }) => name === names[0]).message, /is reserved/);
      return true;
    });
  });
});
