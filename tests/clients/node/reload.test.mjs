// A reload as the official chat client sees it: not at all, but for what was changed.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import { Server, binary, directory, until, within } from "./harness.mjs";

const file = path.join(directory(), "uproar.toml");

describe("reloads under the official client", () => {
  let server;
  before(async () => {
    writeFileSync(file, "");
    server = await Server.start({ extra: ["--config", file] });
  });
  after(() => server.stop());

  async function reload(text) {
    writeFileSync(file, text);
    return promisify(execFile)(binary, ["reload", "--data-dir", server.dataDir]);
  }

  test("nobody is disconnected, and each change is there at once", async () => {
    const arn = await server.room();
    const [alice, bob] = [await server.join(arn, "alice"), await server.join(arn, "bob")];
    const changes = [
      "[messaging]\ncompression = true\n",
      '[messaging]\norigins = ["https://a.example"]\n[delivery]\nspread_members = 0\n',
      "[quotas]\nconnections = 1\n[tokens]\nlife_minutes = 5\n",
      '[log]\nfilter = "debug"\n[review]\ntimeout_ms = 300\n',
      "",
    ];
    for (const [turn, text] of changes.entries()) {
      const { stdout } = await reload(text);
      assert.match(stdout, / → /);
      const sent = await within(alice.send(`turn ${turn}`));
      await until(() => bob.messages.length === turn + 1, "bob hears it");
      assert.deepEqual(bob.messages.at(-1), sent);
    }
    await reload("[quotas]\nconnection_requests = 1\n");
    const answers = await Promise.allSettled(Array.from({ length: 5 }, (_, n) => within(alice.send(`m${n}`))));
    const refused = answers.filter((answer) => answer.status === "rejected");
    assert.ok(refused.length >= 3, JSON.stringify(answers));
    assert.ok(refused.every((answer) => answer.reason.errorCode === 429), JSON.stringify(answers));
    const failed = await reload("[server]\nshards = 7\n[log]\njson = false\n[quotas]\n").catch((error) => error);
    assert.equal(failed.code, 2);
    // The number of shards is hidden by a flag of this server.
    assert.match(failed.stderr, /nothing is reloaded: log\.json: .* use `uproar upgrade`/);
    assert.doesNotMatch(failed.stderr, /shards/);
    alice.leave();
    bob.leave();
    for (const viewer of [alice, bob]) {
      assert.deepEqual(viewer.states, ["connecting", "connect", "disconnect:clientDisconnect"]);
    }
  });
});
