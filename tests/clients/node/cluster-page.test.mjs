// The page of `uproar dev --cluster` in a real browser: nodes and brokers die, and the chat goes on.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { after, before, test } from "node:test";

import { Browser } from "./browser.mjs";
import { binary, directory, until } from "./harness.mjs";

const PAGE = "http://127.0.0.1:8085/";
// Its ports are fixed: another run on this machine ends first.
const PORT_TAKEN = 3;
const START_MS_MAX = 240_000;

let browser, page, server;

/** `uproar dev --cluster`, once it is ready. */
async function start() {
  // Where pip puts the brokers' program: beside the interpreter that runs the Python tests.
  const bin = process.env.TEST_PYTHON ? path.dirname(process.env.TEST_PYTHON) : "";
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, XDG_RUNTIME_DIR: directory() };
  for (;;) {
    const child = spawn(binary, ["dev", "--cluster", "--quotas", "open"], { stdio: ["ignore", "pipe", "pipe"], env });
    const exited = once(child, "exit").then(([code]) => code);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    const state = () => (output.includes("Ctrl-C") ? "ready" : child.exitCode !== null && "ended");
    if ((await until(state, `it starts: ${output}`, START_MS_MAX)) === "ready") return { child, exited };
    assert.equal(await exited, PORT_TAKEN, output);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

before(async () => {
  server = await start();
  browser = await Browser.launch();
  page = await browser.open(PAGE);
});
after(async () => {
  await browser?.close();
  server?.child.kill("SIGTERM");
  assert.equal(await server?.exited, 0);
});

// -- these run in the page --

const connected = (count) => document.querySelectorAll(".viewer .state[data-state=connected]").length === count;
const press = (name, button) => document.querySelector(`[data-name=${name}] .${button}`).click();
const facts = (name) => document.querySelector(`[data-name=${name}] .facts`).textContent;
const home = () => document.querySelector(".process .home:not([hidden])")?.closest(".process").dataset.name;
const nodes = () => [...document.querySelectorAll(".viewer .status .state")].map((state) => state.textContent);
const say = (index, text) => {
  const form = document.querySelectorAll(".say")[index];
  form.content.value = text;
  form.requestSubmit();
};
const allShow = (text) => [...document.querySelectorAll(".messages")].every((list) => list.innerText.includes(text));
const times = (text) =>
  [...document.querySelectorAll(".messages")].map((list) => list.innerText.split(text).length - 1);

/** Somebody says something, and everybody has it, once. */
async function chats(index, text) {
  await page.until(connected, "all are connected", 3);
  await page.run(say, index, text);
  await page.until(allShow, `all see ${text}`, text);
  assert.deepEqual(await page.run(times, text), [1, 1, 1]);
}

test("each viewer is on another node, and they are one room", async () => {
  await page.until(connected, "all are connected", 3);
  assert.deepEqual(await page.run(nodes), [1, 2, 3].map((number) => `connected to node-${number}`));
  for (const index of [0, 1, 2]) await chats(index, `hello from ${index}.`);
  assert.match(await page.until(home, "the room has a home"), /^node-[123]$/);
  await page.until((broker) => /^process \d+ · 2\.\d+/.test(document.querySelector(broker).textContent), "versions", "[data-name=broker-1] .facts");
  assert.deepEqual(await page.accessibility(), []);
  assert.deepEqual(page.faults, []);
});

test("the home of the room is killed, and starts again", async () => {
  const killed = await page.until(home, "the room has a home");
  await page.run(press, killed, "kill");
  await page.until((name) => document.querySelector(`[data-name=${name}] .facts`).textContent === "does not run", "it ends", killed);
  await page.until((name) => {
    const home = document.querySelector(".process .home:not([hidden])")?.closest(".process").dataset.name;
    return home && home !== name;
  }, "another is home", killed);
  await chats(0, "still here.");
  await page.run(press, killed, "start");
  await page.until((name) => document.querySelector(`[data-name=${name}] .facts`).textContent.includes("ready"), "it is back", killed);
  await chats(1, "together again.");
});

test("a node is stopped in order, and a broker", async () => {
  await page.run(press, "node-2", "stop");
  await page.until((facts) => document.querySelector(facts).textContent === "does not run", "it ends", "[data-name=node-2] .facts");
  await chats(2, "two are enough.");
  await page.run(press, "broker-3", "stop");
  await page.until((facts) => document.querySelector(facts).textContent === "does not run", "it ends", "[data-name=broker-3] .facts");
  await chats(0, "of brokers, too.");
  const advice = () => document.getElementById("summary").textContent;
  await page.until(() => document.getElementById("summary").textContent.includes("Start "), "advice");
  assert.match(await page.run(advice), /one more broker/);
  for (const name of ["node-2", "broker-3"]) await page.run(press, name, "start");
  await page.until((facts) => document.querySelector(facts).textContent.includes("ready"), "node-2 is back", "[data-name=node-2] .facts");
  await chats(1, "all of us.");
  assert.match(await page.run(facts, "broker-3"), /^process \d+/);
});
