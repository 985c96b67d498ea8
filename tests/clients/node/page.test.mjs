// The demo page in a real browser: what a newcomer sees in the first minute.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser } from "./browser.mjs";
import { Server, flakyProxy, until } from "./harness.mjs";

let browser, server;
before(async () => {
  server = await Server.start({ quotas: "open" });
  browser = await Browser.launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

// -- what people do on the page; these functions run in it --

const join = (name, role) => {
  const form = document.querySelector(".join");
  form.user.value = name;
  form.role.value = role;
  form.requestSubmit();
};
const say = (text) => {
  const form = document.querySelector(".say");
  form.content.value = text;
  form.requestSubmit();
};
const press = (text, button) => {
  const items = [...document.querySelectorAll(".messages li")];
  items.find((item) => item.textContent.includes(text)).querySelector(button).click();
};
const isIn = (state) => document.querySelector(".state").dataset.state === state;
const shows = (text) => document.querySelector(".messages").innerText.includes(text);

async function viewer(name, role = "viewer", url = server.url) {
  const page = await browser.open(url.replace(/^ws/, "http"));
  await page.run(join, name, role);
  await page.until(isIn, `${name} is connected`, "connected");
  return page;
}

test("pages forbid what they do not need", async () => {
  const answer = await fetch(server.url.replace(/^ws/, "http"));
  assert.match(answer.headers.get("content-security-policy"), /^default-src 'none'; script-src 'self';/);
  assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
  assert.ok(!/ (style|on[a-z]+)=|<style/.test(await answer.text()), "nothing inline");
});

test("two tabs chat; the sender sees the round trip", async () => {
  const ann = await viewer("ann");
  const bob = await viewer("bob é&+ 日本");
  await ann.run(say, "hello <img src=x onerror=document.title='hurt'>");
  await bob.until(shows, "bob sees it", "hello <img");
  await bob.run(say, "salut");
  await ann.until(shows, "ann sees the answer with its sender", "bob é&+ 日本 salut");
  const latency = await bob.until(() => document.querySelector(".latency").textContent, "latency");
  assert.match(latency, /back in \d+\.\d ms/);
  for (const page of [ann, bob]) {
    assert.equal(await page.run(() => document.images.length), 0, "markup is text");
    assert.deepEqual(page.faults, []);
    // Nothing from anywhere else.
    const hosts = new Set(page.requests.map((url) => new URL(url).host).filter(Boolean));
    assert.deepEqual([...hosts], [`127.0.0.1:${server.messagingPort}`]);
  }
});

test("a moderator deletes and kicks; a kicked viewer stays out", async () => {
  const host = await viewer("host", "moderator");
  const rude = await viewer("rude");
  const visible = () => getComputedStyle(document.querySelector(".tools")).display !== "none";
  await rude.run(say, "spam");
  await host.until(shows, "the host sees it", "spam");
  await rude.until(shows, "the sender sees it", "spam");
  assert.equal(await rude.run(visible), false, "no tools for viewers");
  assert.equal(await host.run(visible), true);
  await host.run(press, "spam", ".delete");
  for (const page of [host, rude]) await page.until(shows, "the deletion", "removed by host");
  assert.equal(await rude.run(shows, "spam"), false);

  await rude.run(say, "again");
  await host.until(shows, "the host sees it", "again");
  const asked = rude.requests.length;
  await host.run(press, "again", ".kick");
  await rude.until(isIn, "the kick ends the connection", "closed");
  assert.match(await rude.run(() => document.querySelector(".state").textContent), /kicked by host/);
  // A clean close is final: after another round trip of the room there is still no new attempt.
  await host.run(say, "calm");
  await host.until(shows, "the room goes on", "calm");
  assert.equal(await rude.run(isIn, "closed"), true);
  assert.equal(rude.requests.length, asked, "no token and no connection was asked for");
  assert.deepEqual([host.faults, rude.faults], [[], []]);
});

test("a lost connection comes back with a fresh token", async () => {
  const proxy = await flakyProxy(server.messagingPort);
  const page = await viewer("roamer", "viewer", proxy.url);
  const count = (part) => page.requests.filter((url) => url.includes(part)).length;
  const asked = count("/demo/token");
  proxy.cut();
  await until(() => count("/demo/token") > asked, "a token is asked for");
  await page.until(isIn, "it is connected again", "connected");
  await page.run(say, "back");
  await page.until(shows, "it chats", "back");
  assert.equal(count("/demo/token"), asked + 1);
  proxy.close();
});

test("refusals are shown in the server's words", async () => {
  const page = await viewer("wordy");
  await page.run(say, "x".repeat(501));
  const problem = () => document.querySelector(".problem:not([hidden])")?.textContent;
  assert.equal(await page.until(problem, "the refusal"), "Message exceeds maximum length (400)");
  await page.run(join, "x".repeat(129), "viewer");
  await page.until(isIn, "the refusal of the name", "closed");
  const state = await page.run(() => document.querySelector(".state").textContent);
  assert.match(state, /user must have 1 to 128 characters/);
});

test("a second viewer beside the first, and code for this server", async () => {
  const page = await viewer("left");
  await page.run(() => document.getElementById("second").click());
  const count = (selector, expected) => document.querySelectorAll(selector).length === expected;
  await page.until(count, "both are connected", ".state[data-state=connected]", 2);
  await page.run(say, "to the right");
  await page.until(count, "both show it", ".messages .content", 2);
  await page.run(() => document.getElementById("tab-code").click());
  await page.until(() => document.querySelectorAll("#code pre").length > 0, "the snippets");
  const code = await page.run(() => document.getElementById("code").innerText);
  assert.ok(code.includes(server.controlUrl) && code.includes(server.url) && code.includes(":room/"), code);
  // Of this program and this server's keys, not of whatever is on the path.
  assert.match(code, /\n\/\S+\/uproar token create --data-dir \S+ --room arn:/);
  assert.deepEqual(page.faults, []);
});
