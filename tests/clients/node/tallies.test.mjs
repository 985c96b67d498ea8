// Tallies and reactions as the official chat client meets them: promises that resolve, events for all, no message for others.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { refusal, Server, until, within } from "./harness.mjs";

const SEND = { capabilities: ["SEND_MESSAGE"] };

describe("tallies", () => {
  let server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  const vote = (option) => ({ "uproar:do": "vote", "uproar:tally": "p1", "uproar:option": `${option}` });
  const tallies = (client) => client.events.filter((event) => event.eventName === "uproar:tally");

  test("votes and reactions resolve, all are told the sums, and nobody else gets a message", async () => {
    const arn = await server.room({ tags: { "uproar:reactions": "heart+fire" } });
    const clients = await Promise.all(["alice", "bob", "eve"].map((user) => server.join(arn, user, SEND)));
    const [alice, bob, eve] = clients;
    await server.call("StartTally", {
      roomIdentifier: arn, id: "p1", question: "Who wins?", options: ["Red", "Blue"], seconds: 600,
    });
    const answer = await within(alice.send("2", vote(2)));
    assert.deepEqual([answer.content, answer.attributes["uproar:private"]], ["vote counted", "1"]);
    const again = await refusal(alice.send("1", vote(1)));
    assert.deepEqual([again.errorCode, again.errorMessage], [403, "already voted"]);
    assert.equal((await refusal(bob.send("3", vote(3)))).errorCode, 400);
    await within(bob.send("heart", { "uproar:do": "react", "uproar:key": "heart", "uproar:n": "7" }));
    for (const client of clients) {
      await until(() => tallies(client).at(-1)?.attributes.Total === "1", "the count is told");
      await until(() => client.events.some((event) => event.attributes.heart === "7"), "the hearts are told");
    }
    await server.call("StopTally", { roomIdentifier: arn, id: "p1" });
    for (const client of clients) {
      await until(() => tallies(client).at(-1).attributes.State === "closed", "the end is told");
      assert.equal(tallies(client).at(-1).attributes.Counts, "[0,1]");
    }
    assert.equal((await refusal(bob.send("1", vote(1)))).errorCode, 404);
    await within(eve.send("hello"));
    await until(() => alice.messages.some((message) => message.content === "hello"), "chat goes on");
    assert.deepEqual(eve.messages.map((message) => message.content), ["hello"]);
  });
});
