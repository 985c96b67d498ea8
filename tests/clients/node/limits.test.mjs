// Rate limits under `--quotas aws`: the connection's, the room's, and the sentence applications compare.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server, within } from "./harness.mjs";

/** Sends `count` messages at once; how many were delivered, and the refusals. */
async function burst(member, count) {
  const outcomes = await within(
    Promise.allSettled(Array.from({ length: count }, (_, index) => member.send(`m${index}`))),
  );
  const refused = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  for (const error of refused) {
    assert.equal(error.errorCode, 429);
    assert.equal(error.errorMessage, "rate limit exceeded");
  }
  return { delivered: count - refused.length, refused: refused.length };
}

/** What a rate lets through: a second's worth at once, its share of the time since, and one that was under way. */
function most(rate, since) {
  return rate + 1 + Math.ceil((rate * (performance.now() - since)) / 1_000);
}

describe("rate limits", () => {
  let server;
  before(async () => (server = await Server.start({ quotas: "aws" })));
  after(() => server.stop());

  test("a connection may make ten requests a second", async () => {
    const arn = await server.room({ maximumMessageRatePerSecond: 100 });
    const alice = await server.join(arn, "alice");
    const bob = await server.join(arn, "bob");
    const begun = performance.now();
    const { delivered } = await burst(alice, 30);
    assert.ok(delivered >= 10 && delivered <= most(10, begun), `${delivered} delivered`);
    await within(bob.send("another connection has its own budget"));
    await sleep(1_200);
    await within(alice.send("a second later it may again"));
    assert.equal(alice.room.state, "connected");
    alice.leave();
    bob.leave();
  });

  test("a room's rate holds for all senders together, and for new connections", async () => {
    const arn = await server.room({ maximumMessageRatePerSecond: 5 });
    const senders = await Promise.all([1, 2, 3].map((n) => server.join(arn, `s${n}`)));
    const begun = performance.now();
    const outcomes = await Promise.all(senders.map((one) => burst(one, 5)));
    const delivered = outcomes.reduce((sum, { delivered }) => sum + delivered, 0);
    assert.ok(delivered >= 5 && delivered <= most(5, begun), `${delivered} delivered`);
    senders[0].leave();
    const again = await server.join(arn, "s1");
    const late = await burst(again, 9);
    // The first burst counts, too: a new connection has no budget of its own.
    const all = delivered + late.delivered;
    assert.ok(all <= most(5, begun), `${late.delivered} delivered after a reconnect, ${all} altogether`);
    for (const one of [...senders.slice(1), again]) one.leave();
  });

  test("the default room takes ten messages a second", async () => {
    const arn = await server.room({});
    const senders = await Promise.all([1, 2, 3].map((n) => server.join(arn, `s${n}`)));
    const begun = performance.now();
    const outcomes = await Promise.all(senders.map((one) => burst(one, 9)));
    const delivered = outcomes.reduce((sum, { delivered }) => sum + delivered, 0);
    assert.ok(delivered >= 10 && delivered <= most(10, begun), `${delivered} delivered`);
    for (const one of senders) one.leave();
  });
});
