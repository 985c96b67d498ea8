// Official clients of a cluster, behind HAProxy: three nodes are one server to them, a node that is killed costs its
// viewers a new token, and nobody a message that was taken. The Python harness runs the processes (cluster.py).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { GetRoomCommand, IvschatClient, SendEventCommand } from "@aws-sdk/client-ivschat";
import { DeleteMessageRequest, DisconnectUserRequest } from "amazon-ivs-chat-messaging";

import { startCluster } from "./cluster-processes.mjs";
import { Server, until, within } from "./harness.mjs";

const CLIENTS = 30;

/** The processes, and the server that all nodes together are to clients. */
let processes, cluster;
const everybody = [];

before(async () => {
  processes = await startCluster();
  const { viewers, api, nodes, key } = processes.told;
  cluster = new Server();
  cluster.nodes = nodes;
  cluster.url = `ws://127.0.0.1:${viewers}`;
  const door = (port) =>
    new IvschatClient({ region: "us-west-2", endpoint: `http://127.0.0.1:${port}`, credentials: key, maxAttempts: 5 });
  cluster.api = door(api);
  cluster.doors = nodes.map((node) => door(node.control));
});

after(async () => {
  for (const member of everybody) member.leave();
  await processes.end();
});

/** Members of a room on all nodes, connected; they note where each connection begins in what they hear. */
async function join(arn, count) {
  const members = [];
  for (let n = 0; n < count; n += 1) {
    // Without times: the client keeps a timer for each token's end, also when it has left, and so this process alive.
    const provider = async () => ({ token: (await cluster.token(arn, `u${n}`)).token });
    const member = cluster.member(arn, `u${n}`, { provider });
    everybody.push(member);
    members.push(member);
    member.begins = [];
    member.room.addListener("connect", () => member.begins.push(member.messages.length));
    member.room.connect();
  }
  for (const member of members) await until(() => member.room.state === "connected", "all connect");
  return members;
}

/** Each member says something again and again, one message at a time, until `halt.now`; the ids of what was taken. */
function chat(members, halt) {
  const taken = [];
  const talk = async (member, n) => {
    for (let i = 0; !halt.now; i += 1) {
      // A promise whose connection ends may never be settled: the official client's way.
      const said = member.room.state === "connected" ? member.send(`${n} ${i}`) : Promise.reject(new Error("away"));
      const answer = await Promise.race([said, sleep(20_000, undefined, { ref: false })]).catch(() => undefined);
      if (answer) taken.push(answer.id);
      await sleep(400);
    }
  };
  const done = Promise.all(members.map(talk));
  return { taken, done };
}

/** Fails unless everybody heard one order: gapless for each connection, nothing twice, and all that was taken. */
function judge(members, taken) {
  const heard = members.map((member) => member.messages.map((message) => message.id));
  const steady = heard.filter((_, n) => members[n].begins.length === 1);
  assert.ok(steady.length > 0, "somebody kept its connection");
  const whole = steady.reduce((a, b) => (a.length >= b.length ? a : b));
  const places = new Map(whole.map((id, place) => [id, place]));
  assert.equal(places.size, whole.length, "no message twice");
  for (const id of taken) assert.ok(places.has(id), `${id} was taken and is lost`);
  members.forEach((member, n) => {
    const begins = [...member.begins, heard[n].length];
    for (let c = 0; c + 1 < begins.length; c += 1) {
      const stretch = heard[n].slice(begins[c], begins[c + 1]).map((id) => places.get(id));
      stretch.forEach((place, i) => assert.equal(place, stretch[0] + i, `${n}, connection ${c}: gapless`));
    }
    // Whoever was there at the beginning and the end has everything in between.
    if (member.begins.length === 1) assert.equal(heard[n].at(-1), whole.at(-1));
  });
  const times = members[heard.indexOf(whole)].messages.map((message) => message.sendTime.getTime());
  times.forEach((time, i) => assert.ok(i === 0 || time >= times[i - 1], "SendTime never goes back"));
}

/** They chat while `harm` happens; afterwards all are connected and a last message has reached everybody. */
async function trial(arn, members, harm) {
  const halt = { now: false };
  const { taken, done } = chat(members, halt);
  await sleep(1000);
  await harm();
  await until(() => members.every((member) => member.room.state === "connected"), "all are back");
  await sleep(1000);
  halt.now = true;
  await done;
  const last = await within(members[0].send("the last one"));
  await until(() => members.every((m) => m.messages.at(-1)?.id === last.id), "everybody has the last one");
  assert.ok(taken.length > members.length, `${taken.length} were taken`);
  judge(members, taken);
}

test("official clients on three nodes hear one order, and each other's deletes, kicks and events", async () => {
  const arn = await cluster.room();
  const members = await join(arn, CLIENTS);
  await trial(arn, members, () => sleep(2000));
  assert.ok(members.every((member) => member.tokens === 1), "nobody had to come back");
  // Each node knows the room; any of them sends events.
  for (const door of cluster.doors) {
    await door.send(new GetRoomCommand({ identifier: arn }));
    await door.send(new SendEventCommand({ roomIdentifier: arn, eventName: "goal" }));
  }
  await until(() => members.every((member) => member.events.length === 3), "events");
  const { id } = await within(members[1].send("to be deleted"));
  await within(members[2].room.deleteMessage(new DeleteMessageRequest(id, "spam")));
  await until(() => members.every((member) => member.deletions.some((event) => event.messageId === id)), "deletions");
  await within(members[3].room.disconnectUser(new DisconnectUserRequest("u4", "rude")));
  await until(() => members[4].room.state !== "connected", "the kicked one is out");
  await until(() => members.every((member) => member.disconnections.length === 1 || member === members[4]), "kicks");
  for (const member of members) member.leave();
});

test("a node is killed, twice: its clients come back by themselves, and nothing is lost or heard twice", async () => {
  const arn = await cluster.room();
  const members = await join(arn, CLIENTS);
  await trial(arn, members, async () => {
    for (const { name } of cluster.nodes.slice(0, 2)) {
      await processes.order("kill", name);
      await until(() => members.every((member) => member.room.state === "connected"), "all are back");
      await sleep(1000);
      await processes.order("start", name);
    }
  });
  const again = members.filter((member) => member.tokens > 1).length;
  assert.ok(again > 0, "nobody was on a node that was killed");
  for (const member of members) {
    assert.deepEqual(member.states.filter((state) => state.startsWith("disconnect")), [], "no client gave up");
  }
  // The balancer gives new ones to the nodes with the fewest.
  for (const member of members) member.leave();
});

test("a node is restarted: its clients move by themselves, with one new token each", async () => {
  const arn = await cluster.room();
  const members = await join(arn, CLIENTS);
  await trial(arn, members, async () => {
    await processes.order("restart", cluster.nodes[2].name);
  });
  assert.ok(members.some((member) => member.tokens === 2), "nobody was on the node that was restarted");
  for (const member of members) {
    assert.deepEqual(member.states.filter((state) => state.startsWith("disconnect")), [], "no client gave up");
    assert.ok(member.tokens <= 2, "once at most");
  }
});
