// `uproar upgrade` under the official client: nobody notices.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server, until, within } from "./harness.mjs";

const servers = [];
after(() => Promise.all(servers.map((server) => server.stop())));

test("official clients hear every message once, in order, over three upgrades, and ask for no token", async () => {
  const server = await Server.start();
  servers.push(server);
  const rooms = [await server.room(), await server.room(), await server.room()];
  const members = [];
  for (let i = 0; i < 30; i++) members.push(await server.join(rooms[i % 3], `u${i}`));

  // Three senders talk all the time; a request that is refused or forgotten fails the test.
  let talking = true;
  const sent = [0, 0, 0];
  const talk = async (room) => {
    while (talking) {
      await within(members[room].send(`${sent[room]}`));
      sent[room] += 1;
      await sleep(5);
    }
  };
  const talks = [0, 1, 2].map(talk);
  const pids = new Set([server.process.pid]);
  for (let i = 0; i < 3; i++) {
    const before = sent.map((count) => count + 20);
    await until(() => sent.every((count, room) => count > before[room]), "all rooms talk");
    const { stdout } = await server.upgrade();
    assert.match(stdout, /serves 30 viewers/);
    pids.add(server.process.pid);
  }
  const before = sent.map((count) => count + 20);
  await until(() => sent.every((count, room) => count > before[room]), "all rooms talk on");
  talking = false;
  await Promise.all(talks);

  assert.equal(pids.size, 4);
  for (const [index, member] of members.entries()) {
    const room = index % 3;
    await until(() => member.messages.length === sent[room], `member ${index} hears all`);
    assert.deepEqual(
      member.messages.map(({ content }) => Number(content)),
      Array.from({ length: sent[room] }, (_, number) => number),
    );
    assert.deepEqual(member.states, ["connecting", "connect"]);
    assert.equal(member.tokens, 1);
  }
  await server.join(rooms[0], "late");
  await Promise.all(members.map((member) => member.leave()));
});
