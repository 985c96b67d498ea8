// The number of viewers as the official chat client hears it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Server, until } from "./harness.mjs";

const counts = (client) =>
  client.events.filter((event) => event.eventName === "uproar:viewers").map((event) => event.attributes.Count);

describe("viewers", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  test("three are told that they are three, a hidden one is not counted, one that is gone is gone", async () => {
    const arn = await server.room({ tags: { "uproar:viewers": "5" } });
    const plain = await server.join(await server.room(), "plain");
    const three = [];
    for (const name of ["alice", "bob", "carol"]) three.push(await server.join(arn, name));
    const [alice, bob] = three;
    const tell = (client, count) => until(() => counts(client).at(-1) === count, `they are ${count}`);
    for (const client of three) await tell(client, "3");
    const overlay = await server.join(arn, "overlay", { attributes: { "uproar:hidden": "1" } });
    await tell(overlay, "3");
    bob.leave();
    await tell(alice, "2");
    const last = alice.events.at(-1);
    assert.deepEqual(last.attributes, { Count: "2", Peak: "3", Joined: "0", Left: "1" });
    assert.ok(last.id.length === 12 && last.requestId === "");
    assert.deepEqual(alice.messages, []);
    assert.deepEqual(plain.events, []);
  });
});
