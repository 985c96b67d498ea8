// What rooms have beyond IVS Chat, as the official chat client meets it in a real browser: nothing in it was changed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser } from "./browser.mjs";
import { Server, everything } from "./harness.mjs";
import { application, ask, heard, visit } from "./sdk-page.mjs";

let server, browser, site, arn;
before(async () => {
  server = await Server.start();
  browser = await Browser.launch();
  arn = await server.room({
    maximumMessageRatePerSecond: 100,
    tags: {
      "uproar:viewers": "1", "uproar:slow": "600", "uproar:history": "50", "uproar:reactions": "heart", "uproar:reactions-ms": "250",
    },
  });
  const capabilities = (user) => (user === "mod" ? everything : ["SEND_MESSAGE"]);
  site = await application((user) => server.token(arn, user, { capabilities: capabilities(user) }));
});
after(async () => {
  await browser?.close();
  site?.close();
  await server?.stop();
});

const visitor = (user) => visit(user, [browser, site, server]);
const say = (tab, content, attributes) => tab.run(ask, "sendMessage", "SendMessageRequest", content, attributes);

// -- these run in the page --

/** The newest event of this name, if it has these attributes. */
const newest = (name, wanted) => {
  const last = told.event.filter(({ eventName }) => eventName === name).at(-1);
  return Object.entries(wanted).every(([key, value]) => last?.attributes[key] === value) && last;
};
const events = () => told.event.map(({ eventName }) => eventName);
const contents = () => told.message.map(({ content }) => content);
const gone = () => told.messageDelete.map(({ messageId, reason }) => [messageId, reason]);

test("state, viewers, slow mode, history, a moderator's answer, a pin, a purge, tallies", async () => {
  const ann = await visitor("ann");
  const state = await ann.until(newest, "the state of the room", "uproar:room", { Slow: "600", Talk: "all", Pinned: "" });
  assert.equal((await ann.run(events))[0], "uproar:room", `the first event, ${state.id}`);
  await ann.until(newest, "one viewer", "uproar:viewers", { Count: "1" });

  const { ok: first } = await say(ann, "first");
  const { code, message } = await say(ann, "second");
  assert.equal(code, 429);
  assert.match(message, /^slow mode: wait \d+ s$/);

  const mod = await visitor("mod");
  await mod.until(newest, "the history", "uproar:history", { Count: "1", Complete: "true", Resumed: "false" });
  await mod.until(() => told.message.length === 1, "the message of before");
  assert.deepEqual(await mod.run(() => told.message.map(({ id, content, sender }) => [id, content, sender.userId])), [
    [first.id, "first", "ann"],
  ]);
  for (const tab of [ann, mod]) await tab.until(newest, "two viewers", "uproar:viewers", { Count: "2" });

  const { ok: answer } = await say(mod, "slower", { "uproar:do": "set", "uproar:key": "slow", "uproar:value": "300" });
  assert.deepEqual([answer.content, answer.attributes], [
    "slow is 300", { "uproar:do": "set", "uproar:private": "1", "uproar:result": "ok" },
  ]);
  await ann.until(newest, "what is in force", "uproar:room", { Slow: "300" });

  const { ok: rules } = await say(mod, "be kind");
  assert.equal((await say(mod, "pin", { "uproar:do": "pin", "uproar:id": rules.id })).ok.attributes["uproar:result"], "ok");
  await ann.until(newest, "the pin", "uproar:room", { Pinned: rules.id, PinnedText: "be kind", PinnedBy: "mod" });
  const late = await visitor("late");
  await late.until(() => told.event.length > 0, "the late one is told");
  const [{ eventName, attributes }] = await late.run(() => told.event);
  assert.deepEqual([eventName, attributes.Pinned, attributes.PinnedText], ["uproar:room", rules.id, "be kind"]);
  await late.until(() => told.message.length === 2, "the history");
  assert.ok((await mod.run(ask, "deleteMessage", "DeleteMessageRequest", rules.id, "old")).ok);
  for (const tab of [ann, mod, late]) {
    await tab.until(heard, "the deletion", "messageDelete", rules.id);
    await tab.until(newest, "the pin is gone with it", "uproar:room", { Pinned: "" });
  }

  const purged = await say(mod, "out", { "uproar:do": "purge", "uproar:user": "ann", "uproar:reason": "spam" });
  assert.equal(purged.ok.attributes["uproar:private"], "1");
  for (const tab of [ann, mod, late]) {
    await tab.until(newest, "the purge", "app:DELETE_BY_USER", { userId: "ann", Reason: "spam" });
    assert.deepEqual(await tab.run(gone), [[rules.id, "old"], [first.id, "spam"]]);
  }

  const tally = { roomIdentifier: arn, id: "p1" };
  await server.call("StartTally", { ...tally, question: "Who wins?", options: ["Red", "Blue"], seconds: 600 });
  const vote = { "uproar:do": "vote", "uproar:tally": "p1", "uproar:option": "2" };
  assert.equal((await say(ann, "2", vote)).ok.content, "vote counted");
  assert.deepEqual(await say(ann, "2", vote), { code: 403, message: "already voted" });
  assert.equal((await say(late, "heart", { "uproar:do": "react", "uproar:key": "heart", "uproar:n": "7" })).ok.content, "counted");
  for (const tab of [ann, mod, late]) {
    await tab.until(newest, "the votes", "uproar:tally", { Id: "p1", State: "open", Counts: "[0,1]", Total: "1" });
    await tab.until(newest, "the hearts", "uproar:reactions", { heart: "7" });
  }
  await server.call("StopTally", tally);
  for (const tab of [ann, mod, late]) await tab.until(newest, "the end", "uproar:tally", { State: "closed", Total: "1" });

  // Nobody got what was another's: answers, votes, taps.
  assert.deepEqual(await ann.run(contents), ["first", "be kind", "vote counted"]);
  assert.deepEqual(await late.run(contents), ["first", "be kind", "counted"]);
  assert.deepEqual([ann.faults, mod.faults, late.faults], [[], [], []]);
});
