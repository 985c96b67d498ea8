// What an operator says and does from the terminal, as the official client shows it to a user.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { Server, binary, until, within } from "./harness.mjs";

const run = promisify(execFile);

describe("the terminal and the official client", () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server.stop());

  const uproar = async (...words) =>
    (await run(binary, [...words, "--data-dir", server.dataDir])).stdout.trim();

  test("a message, an event, a deletion and a kick arrive as everybody's do", async () => {
    const arn = await uproar("room", "create", "sdk");
    const bob = await server.join(arn, "bob");
    const id = await uproar("send", "sdk", "héllo 🔥", "--as", "host", "--attributes", '{"badge":"staff"}');
    await until(() => bob.messages.length, "bob hears it");
    const [message] = bob.messages;
    assert.equal(message.id, id);
    assert.equal(message.content, "héllo 🔥");
    assert.equal(message.sender.userId, "host");
    assert.deepEqual(message.attributes, { badge: "staff" });
    await uproar("event", "sdk", "goal", "--attributes", '{"team":"home"}');
    await until(() => bob.events.length, "bob hears the event");
    assert.equal(bob.events[0].eventName, "goal");
    assert.deepEqual(bob.events[0].attributes, { team: "home" });
    await uproar("delete", "sdk", id, "--reason", "Rules");
    await until(() => bob.deletions.length, "bob hears the deletion");
    assert.equal(bob.deletions[0].messageId, id);
    await uproar("kick", "sdk", "bob", "--reason", "Spam");
    await until(() => bob.states.some((state) => state.startsWith("disconnect")), "bob is out");
  });

  test("tap shows what the official client says", async () => {
    const arn = await uproar("room", "create", "tapped");
    const ann = await server.join(arn, "ann");
    const words = ["tap", "tapped", "--json", "--count", "1", "--data-dir", server.dataDir];
    const tap = spawn(binary, words, { stdio: ["ignore", "pipe", "inherit"] });
    let shown = "";
    tap.stdout.on("data", (part) => (shown += part));
    const viewers = async () => JSON.parse(await uproar("room", "show", "tapped", "--json")).viewers;
    await until(async () => (await viewers()) === 2, "the tap is a member");
    const sent = await within(ann.send("hi"));
    await until(() => tap.exitCode !== null, "the tap ends");
    const frame = JSON.parse(shown);
    assert.equal(frame.Id, sent.id);
    assert.equal(frame.Content, "hi");
    ann.leave();
  });
});
