// The operator's page on the nodes of a cluster: each shows its own viewers and rooms, and how many nodes live. The Python
// harness runs the processes (cluster.py).

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { IvschatClient } from "@aws-sdk/client-ivschat";

import { Browser } from "./browser.mjs";
import { startCluster } from "./cluster-processes.mjs";
import { press, roomHash, shows, signIn } from "./console.mjs";
import { Server } from "./harness.mjs";

let processes, key, browser;
const nodes = [];

before(async () => {
  processes = await startCluster();
  const { told } = processes;
  key = told.key;
  for (const { name, messaging, control } of told.nodes) {
    const controlUrl = `http://127.0.0.1:${control}`;
    const api = new IvschatClient({ region: "us-west-2", endpoint: controlUrl, credentials: key, maxAttempts: 5 });
    nodes.push(Object.assign(new Server(), { name, api, controlUrl, url: `ws://127.0.0.1:${messaging}` }));
  }
  browser = await Browser.launch();
});

after(async () => {
  await browser?.close();
  await processes.end();
});

const viewers = (count) => document.querySelector(".tile b")?.textContent === count;

test("each node shows its own viewers, and acts on the room of all", async () => {
  const arn = await nodes[0].room({ name: "shared" });
  const members = [];
  for (const [at, count] of [1, 2, 3].entries()) {
    for (let n = 0; n < count; n += 1) members.push(await nodes[at].join(arn, `user-${at}-${n}`));
  }
  const pages = [];
  for (const [at, node] of nodes.entries()) {
    const page = await signIn({ browser, server: node }, key);
    await page.until(viewers, `${node.name} has ${at + 1}`, String(at + 1));
    await page.until(shows, "its cluster", `${node.name} in trial: 3 nodes live`);
    assert.ok(await page.run(shows, "All is well."), node.name);
    assert.deepEqual(await page.accessibility(), [], node.name);
    pages.push(page);
  }
  const [, , last] = pages;
  await last.run((hash) => (location.hash = hash), roomHash(arn));
  await last.until(() => document.querySelector(".tail .badge").textContent === "live", "it listens");
  await members[0].send("from another node");
  await last.until(shows, "what is said elsewhere", "from another node", ".messages");
  await last.run(press, "Delete the message of user-0-0");
  await last.until(() => document.querySelector(".messages .deleted"), "it is struck");
  await last.run(press, "Kick user-2-0", ".people");
  await last.run(press, "Kick", "dialog");
  await last.until(shows, "it is done", "user-2-0 was disconnected.", "#notes");
  await last.run(() => (location.hash = "#/overview"));
  await last.until(viewers, "two are left", "2");
  assert.deepEqual(pages.flatMap((page) => page.faults), []);
  members.forEach((member) => member.leave());
});

const SLOTS = /Home of\s*(\d+) of 256 hash slots/;
const slots = (page) => page.run((pattern) => Number(document.body.innerText.match(new RegExp(pattern))?.[1]), SLOTS.source);

/** Waits until what the pages say of their nodes' slots makes 256, each having some; the pages show one after the other. */
async function allSlots(pages) {
  for (;;) {
    const homes = [];
    for (const page of pages) {
      await page.ask("Page.bringToFront");
      homes.push((await slots(page)) || 0);
    }
    if (homes.every((count) => count > 0) && homes.reduce((sum, count) => sum + count) === 256) return homes;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

test("the operations view of each node says of how many hash slots it is the home, also after a node was killed", async () => {
  const pages = [];
  for (const node of nodes) {
    const page = await signIn({ browser, server: node }, key);
    await page.run(() => (location.hash = "#/operations"));
    await page.until(shows, "no trouble", "In step with its cluster.");
    assert.deepEqual(await page.accessibility(), [], node.name);
    pages.push(page);
  }
  await allSlots(pages);
  await processes.order("kill", nodes[2].name);
  await allSlots(pages.slice(0, 2));
  await processes.order("start", nodes[2].name);
  await allSlots(pages);
});

test("a node that is killed is missed on the others' pages, and its own says that nobody answers", async () => {
  const [first, second] = nodes;
  const pages = [await signIn({ browser, server: first }, key), await signIn({ browser, server: second }, key)];
  await pages[0].until(shows, "three live", "3 nodes live");
  await processes.order("kill", second.name);
  await pages[0].ask("Page.bringToFront");
  await pages[0].until(shows, "two are left", "2 nodes live");
  await pages[1].ask("Page.bringToFront");
  await pages[1].until(() => document.querySelector("header .badge").textContent === "no answer", "its end shows");
  await processes.order("start", second.name);
  await pages[1].until(() => document.querySelector("header .badge").textContent === "serving", "it is back");
  await pages[0].ask("Page.bringToFront");
  await pages[0].until(shows, "three live again", "3 nodes live");
});
