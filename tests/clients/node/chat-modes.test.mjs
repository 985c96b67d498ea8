// Chat modes as the official chat client meets them: what its promises are told, and what others hear.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { TagResourceCommand, UntagResourceCommand } from "@aws-sdk/client-ivschat";

import { refusal, Server, until, within } from "./harness.mjs";

const SEND = { capabilities: ["SEND_MESSAGE"] };
const texts = (client) => client.messages.map((message) => message.content);

describe("chat modes", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  const tag = (arn, tags) => server.api.send(new TagResourceCommand({ resourceArn: arn, tags }));

  test("slow mode: the second message is refused with the wait, until the tag is gone", async () => {
    const arn = await server.room();
    const [alice, bob] = [await server.join(arn, "alice", SEND), await server.join(arn, "bob", SEND)];
    await tag(arn, { "uproar:slow": "10" });
    await until(() => bob.events.length > 0, "bob is told");
    assert.deepEqual([bob.events[0].eventName, bob.events[0].attributes.Slow], ["uproar:room", "10"]);
    await within(alice.send("one"));
    const refused = await refusal(alice.send("two"));
    assert.equal(refused.errorCode, 429);
    assert.match(refused.errorMessage, /wait \d+ s/);
    await tag(arn, { "uproar:slow": "3600" });
    alice.leave();
    const again = await server.join(arn, "alice", SEND);
    assert.match((await refusal(again.send("three"))).errorMessage, /wait 3\d\d\d s/);
    const mod = await server.join(arn, "mod", { capabilities: ["SEND_MESSAGE", "DELETE_MESSAGE"] });
    await within(mod.send("rules"));
    await within(mod.send("more rules"));
    await until(() => bob.messages.length === 3, "bob hears the moderator");
    assert.deepEqual(texts(bob), ["one", "rules", "more rules"]);
    await server.api.send(new UntagResourceCommand({ resourceArn: arn, tagKeys: ["uproar:slow"] }));
    await within(again.send("four"));
    await within(again.send("five"));
    await until(() => bob.messages.length === 5, "bob hears all of it");
    const states = bob.events.map((event) => event.attributes.Slow);
    assert.deepEqual(states, ["10", "3600", ""]);
  });

  test("closed, roles, age, repeated and emotes", async () => {
    const arn = await server.room({ tags: { "uproar:talk": "none" } });
    const alice = await server.join(arn, "alice", { ...SEND, attributes: { "uproar:role": "sub" } });
    const bob = await server.join(arn, "bob", SEND);
    const says = async (client, text, errorCode, errorMessage) => {
      const refused = await refusal(client.send(text));
      assert.deepEqual([refused.errorCode, refused.errorMessage], [errorCode, errorMessage]);
    };
    await says(alice, "a", 403, "chat is closed");
    await tag(arn, { "uproar:talk": "sub+vip" });
    await within(alice.send("b"));
    await says(bob, "c", 403, "chat is open to: sub, vip");
    await tag(arn, { "uproar:talk": "all", "uproar:age": "600" });
    await says(bob, "d", 403, "you may write in 600 s");
    await server.api.send(new UntagResourceCommand({ resourceArn: arn, tagKeys: ["uproar:age"] }));
    await tag(arn, { "uproar:unique": "room:600" });
    await within(bob.send("Hello"));
    await says(alice, " hello", 406, "repeated message");
    await tag(arn, { "uproar:emotes": "only" });
    await says(bob, "words", 406, "only emotes");
    await within(bob.send("🔥 :wave:"));
    await until(() => alice.messages.length === 3, "alice hears what was said");
    assert.deepEqual(texts(alice), ["b", "Hello", "🔥 :wave:"]);
  });
});
