// Who moderated what: what an official chat client deletes is in the audit file with its user's id.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { DeleteMessageRequest, DisconnectUserRequest, SendMessageRequest } from "amazon-ivs-chat-messaging";

import { Server, until, within } from "./harness.mjs";

let server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

const records = async (arn) => (await server.call("ListAuditRecords", { roomIdentifier: arn })).records;

test("a moderator's deletion, kick and time-out are in the file and the listing, with her id", async () => {
  const arn = await server.room({ tags: { "uproar:state": "on" } });
  const [mod, bob] = [await server.join(arn, "mod anna"), await server.join(arn, "bob")];
  const said = await within(bob.send("spam"));
  await within(mod.room.deleteMessage(new DeleteMessageRequest(said.id, "it is spam")));
  const verdict = { "uproar:do": "timeout", "uproar:user": "bob", "uproar:seconds": "60" };
  await within(mod.room.sendMessage(new SendMessageRequest("out", verdict)));
  // The answer to a command comes behind its record.
  const [timeout] = await records(arn);
  assert.deepEqual([timeout.action, timeout.target, timeout.by, timeout.result], ["timeout", "bob", { kind: "user", id: "mod anna" }, "ok"]);
  await within(mod.room.disconnectUser(new DisconnectUserRequest("bob", "enough")));
  await until(async () => (await records(arn)).length === 3, "all three are there");
  const [kick, , deletion] = await records(arn);
  const { time, ...rest } = deletion;
  assert.deepEqual(rest, {
    by: { kind: "user", id: "mod anna" }, action: "DELETE_MESSAGE", room: arn, target: said.id, reason: "it is spam", result: "ok",
  });
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  assert.deepEqual([kick.action, kick.target, kick.reason], ["DISCONNECT_USER", "bob", "enough"]);
  const directory = path.join(server.dataDir, "audit");
  const lines = readdirSync(directory).flatMap((name) => readFileSync(path.join(directory, name), "utf8").trim().split("\n"));
  assert.ok(lines.map((line) => JSON.parse(line)).some((record) => record.target === said.id && record.by.id === "mod anna"));
});
