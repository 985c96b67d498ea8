// The official chat client as applications ship it: its ES modules in a real browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { DeleteRoomCommand, SendEventCommand } from "@aws-sdk/client-ivschat";

import { Browser } from "./browser.mjs";
import { Server, until, within } from "./harness.mjs";
import { application, ask, connect, connected, heard, visit } from "./sdk-page.mjs";

let server, site, browser, arn;
before(async () => {
  server = await Server.start();
  arn = await server.room();
  const minutes = (user) => (user === "brief" ? 1 : 60);
  site = await application((user) => server.token(arn, user, { minutes: minutes(user) }));
  browser = await Browser.launch();
});
after(async () => {
  await browser?.close();
  site?.close();
  await server?.stop();
});

const visitor = (user, place = [browser, site, server]) => visit(user, place);

test("two browsers send, receive, delete, are refused and kicked", async () => {
  const [ann, bob] = [await visitor("ann"), await visitor("bob é")];
  const { ok: sent } = await ann.run(ask, "sendMessage", "SendMessageRequest", "héllo 🔥", { a: "1" });
  assert.equal(sent.content, "héllo 🔥");
  for (const tab of [ann, bob]) await tab.until(heard, "it is heard", "message", "ann", "héllo 🔥", { a: "1" });

  const long = await bob.run(ask, "sendMessage", "SendMessageRequest", "x".repeat(501));
  assert.deepEqual(long, { code: 400, message: "Message exceeds maximum length" });

  assert.ok((await bob.run(ask, "deleteMessage", "DeleteMessageRequest", sent.id, "spam")).ok);
  for (const tab of [ann, bob]) await tab.until(heard, "the deletion", "messageDelete", sent.id);

  await server.api.send(new SendEventCommand({ roomIdentifier: arn, eventName: "app:goal" }));
  await bob.until(heard, "the application event", "event", "app:goal");

  await within(ann.run(ask, "disconnectUser", "DisconnectUserRequest", "bob é", "rude"));
  await bob.until(heard, "bob is out for good", "disconnect", "serverDisconnect");
  assert.equal(await bob.run(() => tokens), 1, "no attempt to come back");
  await ann.until(heard, "ann is told", "userDisconnect", "bob é");
  assert.deepEqual([ann.faults, bob.faults], [[], []]);
});

test("who is in a room that is deleted is out for good, by a clean close", async () => {
  const room = await server.room();
  const shop = await application((user) => server.token(room, user));
  const tab = await browser.open(`http://127.0.0.1:${shop.address().port}/`);
  await tab.run(connect, server.url, "ann");
  await tab.until(connected, "it connects");
  await server.api.send(new DeleteRoomCommand({ identifier: room }));
  await tab.until(heard, "it is out", "disconnect", "serverDisconnect");
  assert.deepEqual(await tab.run(() => ending), { code: 1000, wasClean: true, reason: "Room deleted" });
  shop.close();
});

test("a stopping server is taken for a lost one; started again it serves the same page", async () => {
  const own = await Server.start();
  const other = await own.room();
  const shop = await application((user) => own.token(other, user));
  const tab = await browser.open(`http://127.0.0.1:${shop.address().port}/`);
  await tab.run(connect, own.url, "ann");
  await tab.until(connected, "it connects");
  await own.stop();
  await tab.until(heard, "it gives up", "disconnect");
  assert.deepEqual(
    (await tab.run(() => log)).map(([name]) => name),
    ["connecting", "connect", "connecting", "disconnect"],
    "the cut was no clean close: it tried to come back",
  );
  const again = await Server.start({ dataDir: own.dataDir, messagingPort: own.messagingPort });
  own.api = again.api;
  await tab.run(() => room.connect());
  await tab.until(connected, "it connects to the new process");
  shop.close();
  await again.stop();
});

test("a session of a minute ends with ERROR 401 and the browser comes back by itself", async () => {
  const tab = await visitor("brief");
  await until(async () => (await tab.run(() => tokens)) === 2, "a second token", 75_000);
  await tab.until(connected, "it is connected again");
  assert.deepEqual(
    (await tab.run(() => log)).map(([name]) => name),
    ["connecting", "connect", "connecting", "connect"],
  );
  assert.ok((await tab.run(ask, "sendMessage", "SendMessageRequest", "back")).ok);
});

// Browsers speak TLS of their own: a hand-over that disturbed one record would end their connections.
test("browsers over wss notice nothing of three upgrades", async () => {
  const secure = await Server.start({ extra: ["--tls"] });
  const room = await secure.room();
  const shop = await application((user) => secure.token(room, user));
  // The throw-away certificate, which each process makes anew, has no authority that Chromium knows.
  const trusting = await Browser.launch(["--ignore-certificate-errors"]);
  try {
    const tabs = [];
    for (const user of ["ann", "bob"]) tabs.push(await visitor(user, [trusting, shop, secure]));
    const contents = () => log.filter(([name]) => name === "message").map(([, , content]) => Number(content));
    const talk = async () => {
      const { SendMessageRequest } = await import("amazon-ivs-chat-messaging");
      window.said = 0;
      window.talking = true;
      window.talk = (async () => {
        while (talking) await room.sendMessage(new SendMessageRequest(`${said++}`));
      })();
    };
    await tabs[0].run(talk);
    const more = (count) => said >= count;
    for (let upgrades = 1; upgrades <= 3; upgrades++) {
      await tabs[0].until(more, "ann talks", upgrades * 20);
      const before = await tabs[0].run(() => said);
      const { stdout } = await secure.upgrade();
      assert.match(stdout, /serves 2 viewers/);
      await tabs[0].until(more, "ann talks on", before + 20);
    }
    // Each request is answered, or this rejects.
    await within(tabs[0].run(async () => ((window.talking = false), await talk, null)));
    const count = await tabs[0].run(() => said);
    for (const tab of tabs) {
      await tab.until((count) => log.filter(([name]) => name === "message").length >= count, "all is heard", count);
      assert.deepEqual(await tab.run(contents), Array.from({ length: count }, (_, number) => number));
      const states = () => log.map(([name]) => name).filter((name) => name !== "message");
      assert.deepEqual(await tab.run(states), ["connecting", "connect"]);
      assert.equal(await tab.run(() => tokens), 1);
    }
  } finally {
    await trusting.close();
    shop.close();
    await secure.stop();
  }
});
