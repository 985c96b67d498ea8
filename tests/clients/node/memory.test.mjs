// Room memory and purges as the official chat client meets them: nothing is lost over forced reconnects, and nothing is shown
// twice; what was deleted is gone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server, flakyProxy, refusal, until, within } from "./harness.mjs";

const texts = (client) => client.messages.map((message) => message.content);
const told = (client, name) => client.events.filter((event) => event.eventName === name);
/** `count` texts, each of its own. */
const words = (count, mark) => Array.from({ length: count }, (_, at) => `${mark} ${at}`);

/** Says texts one after the other. */
async function say(client, all) {
  for (const text of all) await within(client.send(text));
}

/** How often a client comes back in a suite, and by hand: `CHAT_RECONNECTS=1000`. */
const RECONNECTS = Number(process.env.CHAT_RECONNECTS ?? 60);

describe("a room that remembers", () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server.stop());

  test("who joins gets the newest 50 messages in order, none twice, while others speak", async () => {
    const arn = await server.room({ tags: { "uproar:history": "50" } });
    const alice = await server.join(arn, "alice");
    await say(alice, words(60, "before"));
    let speaks = true;
    const live = [];
    const chat = (async () => {
      for (let at = 0; speaks; at++) {
        live.push(`live ${at}`);
        await within(alice.send(live.at(-1)));
      }
    })();
    const bob = await server.join(arn, "bob");
    await until(() => texts(bob).length >= 80, "bob hears what is said now");
    speaks = false;
    await chat;
    await until(() => texts(bob).at(-1) === live.at(-1), "bob hears the last one");
    const all = [...words(60, "before"), ...live];
    const [event] = told(bob, "uproar:history");
    assert.deepEqual(event.attributes, { Count: "50", Complete: "true", Resumed: "false" });
    // The newest 50 of when he came, then everything: one piece of what was said.
    const first = all.indexOf(texts(bob)[0]);
    assert.deepEqual(texts(bob), all.slice(first));
    assert.equal(new Set(bob.messages.map((message) => message.id)).size, bob.messages.length);
    for (const client of [alice, bob]) client.leave();
  });

  test("what is said while the network is gone arrives once", async () => {
    const arn = await server.room({ tags: { "uproar:resume": "60" } });
    const proxy = await flakyProxy(server.messagingPort);
    const alice = await server.join(arn, "alice");
    // The client's own new token is what it comes back with: it is given when all is said.
    let isBack;
    const said = new Promise((done) => (isBack = done));
    const bob = await server.join(arn, "bob", {
      url: proxy.url,
      provider: async (attempt) => {
        if (attempt > 1) await said;
        return { token: (await server.token(arn, "bob")).token };
      },
    });
    await say(alice, ["a", "b"]);
    await until(() => texts(bob).length === 2, "bob hears the first ones");
    proxy.cut();
    await until(() => bob.states.at(-1) === "connecting", "bob is away");
    await say(alice, words(20, "missed"));
    isBack();
    await until(() => texts(bob).length >= 22, "bob has it all");
    await within(alice.send("end"));
    await until(() => texts(bob).at(-1) === "end", "bob hears the end");
    assert.deepEqual(texts(bob), ["a", "b", ...words(20, "missed"), "end"]);
    assert.equal(told(bob, "uproar:history").at(-1).attributes.Resumed, "true");
    for (const client of [alice, bob]) client.leave();
    proxy.close();
  });

  test("a message whose echo was cut off resolves once its sender is back", async () => {
    const arn = await server.room({ tags: { "uproar:resume": "60" } });
    const proxy = await flakyProxy(server.messagingPort);
    const alice = await server.join(arn, "alice");
    const provider = async () => ({ token: (await server.token(arn, "bob")).token });
    const bob = await server.join(arn, "bob", { url: proxy.url, provider });
    // Nothing comes back through the proxy any more: the server has the message, bob has no echo.
    proxy.deafen();
    const sent = bob.send("did you hear me?");
    await until(() => texts(alice).includes("did you hear me?"), "all hear it");
    proxy.cut();
    assert.equal((await within(sent)).content, "did you hear me?");
    assert.deepEqual(texts(alice), ["did you hear me?"]);
    for (const client of [alice, bob]) client.leave();
    proxy.close();
  });

  test("a new token in the middle loses nothing and shows nothing twice", async () => {
    const arn = await server.room({ tags: { "uproar:history": "50" } });
    const alice = await server.join(arn, "alice");
    const bob = await server.join(arn, "bob", {
      // The client refreshes 30 s before the expiry it is told, so two seconds after it connected.
      provider: async () => ({
        token: (await server.token(arn, "bob")).token,
        tokenExpirationTime: new Date(Date.now() + 32_000),
      }),
    });
    let said = 0;
    const speak = async (tokens) => {
      for (; bob.tokens < tokens; said++) {
        await within(alice.send(`m ${said}`));
        await sleep(20);
      }
      // The new connection has its history.
      await until(() => told(bob, "uproar:history").length === tokens, "it is told its history");
      await within(alice.send(`end ${tokens}`));
      await until(() => texts(bob).at(-1) === `end ${tokens}`, "bob hears the end");
    };
    await speak(2);
    assert.deepEqual(texts(bob), [...words(said, "m"), "end 2"]);
    // The client forgets ids half a second after each new token, so that the next one's history has some that it does not know:
    // a list by id shows them once.
    const first = said;
    await speak(3);
    const shown = new Map(bob.messages.map(({ id, content }) => [id, content]));
    assert.deepEqual([...shown.values()], [...words(first, "m"), "end 2", ...words(said, "m").slice(first), "end 3"]);
    assert.deepEqual(bob.states, ["connecting", "connect"], "the application noticed nothing");
    for (const client of [alice, bob]) client.leave();
  });

  test(`0 lost and 0 twice over ${RECONNECTS} forced reconnects, where a room without resume loses some`, async () => {
    const arns = await Promise.all([server.room({ tags: { "uproar:resume": "60" } }), server.room()]);
    const proxy = await flakyProxy(server.messagingPort);
    const speakers = await Promise.all(arns.map((arn) => server.join(arn, "alice")));
    const join = (arn, at) => {
      const provider = async () => ({ token: (await server.token(arn, `viewer ${at}`)).token });
      return server.join(arn, `viewer ${at}`, { url: proxy.url, provider });
    };
    const rooms = await Promise.all(arns.map((arn) => Promise.all([0, 1, 2, 3].map((at) => join(arn, at)))));
    const viewers = rooms.flat();
    let said = 0;
    let speaks = true;
    const chat = (async () => {
      while (speaks) {
        const text = `m ${said++}`;
        await Promise.all(speakers.map((speaker) => within(speaker.send(text))));
        // Below the room's rate.
        await sleep(11);
      }
    })();
    const rounds = Math.ceil(RECONNECTS / rooms[0].length);
    for (let round = 0; round < rounds; round++) {
      const before = viewers.map((viewer) => viewer.tokens);
      const heard = said;
      proxy.cut();
      await until(
        () => viewers.every((viewer, at) => viewer.tokens > before[at] && viewer.room.state === "connected"),
        `all are back in round ${round}`,
      );
      // Some of it comes over the new connections.
      await until(() => said > heard + 3, "they speak on");
    }
    speaks = false;
    await chat;
    await Promise.all(speakers.map((speaker) => within(speaker.send("end"))));
    await until(() => viewers.every((viewer) => texts(viewer).at(-1) === "end"), "all hear the end");
    const all = [...words(said, "m"), "end"];
    const lost = (viewer) => all.filter((text) => !texts(viewer).includes(text)).length;
    const twice = (viewer) => texts(viewer).length - new Set(texts(viewer)).size;
    const sum = (of, all) => all.reduce((sum, viewer) => sum + of(viewer), 0);
    const figures = rooms.map((room) => ({ lost: sum(lost, room), twice: sum(twice, room) }));
    const back = rooms.map((room) => sum((viewer) => viewer.tokens - 1, room));
    console.log(`reconnects ${back}, messages ${said} each: with resume ${JSON.stringify(figures[0])}, without ${JSON.stringify(figures[1])}`);
    assert.deepEqual(figures[0], { lost: 0, twice: 0 });
    for (const viewer of rooms[0]) assert.deepEqual(texts(viewer), all, "in order");
    assert.ok(figures[1].lost > 0, "without resume some are lost: the network was cut while they spoke");
    assert.ok(back[0] >= RECONNECTS);
    for (const client of [...viewers, ...speakers]) client.leave();
    proxy.close();
  });

  test("a purge is a deletion each and one event, and who joins later has none of it", async () => {
    const arn = await server.room({ tags: { "uproar:history": "50", "uproar:commands": "slash" } });
    const [mod, bob, eve] = [await server.join(arn, "mod"), await server.join(arn, "bob"), await server.join(arn, "eve")];
    await say(bob, words(7, "spam"));
    await say(eve, words(3, "fine"));
    await until(() => texts(eve).length === 10, "eve has it all");
    const ids = eve.messages.filter(({ sender }) => sender.userId === "bob").map(({ id }) => id);
    assert.equal((await within(mod.send("/purge bob spam"))).content, "7 messages of bob are removed");
    await until(() => told(eve, "app:DELETE_BY_USER").length === 1, "eve is told");
    assert.deepEqual(eve.deletions.map(({ messageId }) => messageId).sort(), [...ids].sort());
    assert.deepEqual(told(eve, "app:DELETE_BY_USER")[0].attributes, { userId: "bob", UserId: "bob", Reason: "spam" });
    const late = await server.join(arn, "late");
    await until(() => texts(late).length === 3, "the late one has the history");
    assert.deepEqual(texts(late), words(3, "fine"));
    await within(mod.send("/clear"));
    await until(() => told(late, "uproar:clear").length === 1, "the late one is told");
    const last = await server.join(arn, "last");
    await within(eve.send("new"));
    await until(() => texts(last).length > 0, "the last one hears the new one");
    assert.deepEqual(texts(last), ["new"]);
    for (const client of [mod, bob, eve, late, last]) client.leave();
  });

  test("a ban may purge, in one room or in all", async () => {
    const tags = { "uproar:history": "50" };
    const arns = await Promise.all([server.room({ tags }), server.room({ tags })]);
    for (const arn of arns) {
      const bob = await server.join(arn, "bob");
      await say(bob, ["spam"]);
      bob.leave();
    }
    const left = async (arn) => (await server.call("ListMessages", { roomIdentifier: arn })).messages.length;
    await server.call("CreateBan", { roomIdentifier: arns[0], userId: "bob", mode: "ban", purge: true });
    assert.deepEqual(await Promise.all(arns.map(left)), [0, 1]);
    await server.call("CreateBan", { userId: "bob", mode: "timeout", seconds: 60, purge: true });
    assert.deepEqual(await Promise.all(arns.map(left)), [0, 0]);
  });

  test("erasing a user leaves nothing of him in rooms, pins and bans", async () => {
    const arn = await server.room({ tags: { "uproar:history": "50" } });
    const [gone, eve] = [await server.join(arn, "gone"), await server.join(arn, "eve")];
    const [said] = [await within(gone.send("my address is …"))];
    await say(eve, ["hello"]);
    await server.call("PinMessage", { roomIdentifier: arn, messageId: said.id });
    await server.call("CreateBan", { roomIdentifier: arn, userId: "gone", mode: "timeout", seconds: 600, reason: "lives in …" });
    assert.deepEqual(await server.call("EraseUser", { userId: "gone" }), { messages: 1, pins: 1, bans: 1 });
    const { messages } = await server.call("ListMessages", { roomIdentifier: arn });
    assert.deepEqual(messages.map(({ content }) => content), ["hello"]);
    const { bans } = await server.call("ListBans", { roomIdentifier: arn });
    assert.deepEqual(bans.map(({ userId, reason, mode }) => [userId, reason, mode]), [["gone", "", "timeout"]]);
    assert.equal((await refusal(gone.send("still held"))).errorCode, 403);
    await until(() => told(eve, "uproar:room").at(-1).attributes.Pinned === "", "the pin is gone");
    assert.deepEqual(await server.call("EraseUser", { userId: "gone" }), { messages: 0, pins: 0, bans: 0 });
    for (const client of [gone, eve]) client.leave();
  });

  test("the code of docs/features.md does what the page says", async () => {
    const page = readFileSync(new URL("../../../docs/features.md", import.meta.url), "utf8");
    const code = page.match(/```js by \.\.\/node\/memory\.test\.mjs\n([^]*?)```/)[1];
    const { showRoom } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
    const arn = await server.room({ tags: { "uproar:history": "50", "uproar:commands": "slash" } });
    const alice = await server.join(arn, "alice");
    await say(alice, ["one", "two"]);
    await within(alice.send("/pin be kind"));
    const shown = new Map();
    const notes = [];
    const list = {
      put: (id, text, isOld) => shown.set(id, `${isOld ? "(old) " : ""}${text}`),
      remove: (id) => shown.delete(id),
      removeOf: (userId) => notes.push(`removed ${userId}`),
      clear: () => shown.clear(),
      note: (text) => notes.push(text),
      pin: (text) => notes.push(`pinned ${text}`),
    };
    const bob = server.member(arn, "bob");
    showRoom(bob.room, list);
    bob.room.connect();
    await until(() => shown.size === 2, "bob has the history");
    await within(alice.send("three"));
    await until(() => shown.size === 3, "bob hears the new one");
    assert.deepEqual([...shown.values()], ["(old) one", "(old) two", "three"]);
    assert.ok(notes.includes("pinned be kind"), `${notes}`);
    await within(alice.send("/purge alice"));
    await until(() => notes.includes("removed alice") && shown.size === 0, "bob takes them off");
    await within(alice.send("four"));
    await within(alice.send("/clear"));
    await until(() => shown.size === 0, "bob's list is empty");
    for (const client of [alice, bob]) client.leave();
  });
});

test("over TLS, who comes back has it all once", async () => {
  const server = await Server.start({ extra: ["--tls"] });
  const { WebSocket } = await import("ws");
  const arn = await server.room({ tags: { "uproar:resume": "60" } });
  const frames = [];
  const open = async (userId) => {
    const { token } = await server.token(arn, userId);
    const socket = new WebSocket(server.url, token, server.trust());
    const got = [];
    socket.on("message", (data) => got.push(JSON.parse(data)));
    socket.on("error", () => {});
    await new Promise((done, fail) => socket.on("open", done).on("close", fail));
    return { socket, got };
  };
  const alice = await open("alice");
  const say = async (text) => {
    alice.socket.send(JSON.stringify({ Action: "SEND_MESSAGE", RequestId: text, Content: text }));
    await until(() => alice.got.some((frame) => frame.RequestId === text), `alice hears ${text}`);
  };
  let bob = await open("bob");
  await say("before");
  await until(() => bob.got.some((frame) => frame.Content === "before"), "bob hears it");
  frames.push(...bob.got);
  bob.socket.terminate();
  for (const text of words(20, "missed")) await say(text);
  const deleted = alice.got.find((frame) => frame.Content === "missed 7").Id;
  alice.socket.send(JSON.stringify({ Action: "DELETE_MESSAGE", RequestId: "d", Id: deleted, Reason: "x" }));
  await until(() => alice.got.some((frame) => frame.EventName === "aws:DELETE_MESSAGE"), "it is deleted");
  bob = await open("bob");
  await say("end");
  await until(() => bob.got.some((frame) => frame.Content === "end"), "bob is back");
  const messages = new Map([...frames, ...bob.got].filter(({ Type }) => Type === "MESSAGE").map((one) => [one.Id, one.Content]));
  const missed = words(20, "missed").filter((text) => text !== "missed 7");
  assert.deepEqual([...messages.values()], ["before", ...missed, "end"]);
  const after = bob.got.filter(({ Type }) => Type === "MESSAGE").map(({ Id }) => Id);
  assert.equal(new Set(after).size, after.length, "none twice on one connection");
  assert.ok(!JSON.stringify(bob.got).includes('"Content":"missed 7"'));
  for (const { socket } of [alice, bob]) socket.terminate();
  await server.stop();
});
