// The processes of a cluster for a suite. The Python harness runs them (cluster.py): its first line says where they are, and
// each order that it has carried out is another line.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

import { binary, within } from "./harness.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const python = process.env.TEST_PYTHON ?? path.resolve(here, "../../../target/clients/venv/bin/python");
const TURN_MS_MAX = 180_000;

/** Starts a cluster; says what it is told of it, carries out orders for a process (kill, start, restart), and ends it. */
export async function startCluster() {
  const harness = spawn(python, [path.resolve(here, "../python/cluster.py")], {
    env: { ...process.env, UPROAR_BIN: binary, PYTEST_XDIST_WORKER: "gw2" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = readline.createInterface({ input: harness.stdout })[Symbol.asyncIterator]();
  const next = async (when) => {
    const { value, done } = await within(lines.next(), TURN_MS_MAX);
    assert.ok(!done, `the harness ended at ${when}`);
    return value;
  };
  return {
    told: JSON.parse(await next("its start")),
    async order(verb, name) {
      harness.stdin.write(`${verb} ${name}\n`);
      await next(`${verb} ${name}`);
    },
    async end() {
      harness.stdin.end();
      await once(harness, "exit");
    },
  };
}
