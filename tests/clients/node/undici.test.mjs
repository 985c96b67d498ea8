// The official client on Node's own WebSocket, undici's, where `ws` may differ: how a cut looks, and a connect that waits.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));

/** Runs tests of another file, as many as `expected`, with that constructor. */
const run = (file, expected, pattern = ".") => {
  const environment = { ...process.env, CHAT_WEBSOCKET: "undici" };
  delete environment.NODE_TEST_CONTEXT;
  // Node 20 hides the constructor that Node 22 has.
  const flags = ["--experimental-websocket", "--test", "--test-reporter=tap", `--test-name-pattern=${pattern}`];
  const done = spawnSync(process.execPath, [...flags, path.join(here, file)], { env: environment, encoding: "utf8" });
  assert.equal(done.status, 0, done.stdout + done.stderr);
  assert.match(done.stdout, new RegExp(`^# pass ${expected}$`, "m"));
};

test("over three upgrades", () => run("upgrade.test.mjs", 1));

test("back from a kill", () => run("kept-listeners.test.mjs", 1, "clients come back from a kill"));

test("back from a restart", () => run("restart.test.mjs", 1, "every client comes back"));
