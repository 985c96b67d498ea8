// The operator's page in a real browser, beside viewers of the official client: signed in with a key, it shows what is
// there and does what its buttons say; without a key it is a form and nothing else.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { Browser } from "./browser.mjs";
import { Server, binary, credentials, until } from "./harness.mjs";

const run = promisify(execFile);
const HURT = "<img src=x onerror=document.title='hurt'>";

let browser, server;
before(async () => {
  server = await Server.start({ quotas: "open" });
  browser = await Browser.launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const uproar = async (...words) => (await run(binary, [...words, "--data-dir", server.dataDir])).stdout.trim();
const key = async (...words) => {
  const made = await uproar("keys", "create", ...words);
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = Object.fromEntries(made.split("\n").map((line) => line.split("=")));
  return { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY };
};

// -- what people do on the page; these functions run in it --

const submit = (selector, values) => {
  const form = document.querySelector(selector);
  for (const [name, value] of Object.entries(values)) {
    const field = form.elements[name];
    if (field.type === "checkbox") field.checked = value;
    else field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  form.requestSubmit();
};
const press = (name, root = "body") => {
  const named = (button) => (button.getAttribute("aria-label") ?? button.textContent) === name;
  const found = [...document.querySelectorAll(`${root} button`)].filter(named);
  if (found.length !== 1) throw new Error(`${found.length} buttons are called ${name}`);
  found[0].click();
};
const shows = (text, root = "body") => document.querySelector(root)?.innerText.includes(text);

async function signedIn({ accessKeyId: id, secretAccessKey: secret } = credentials, hash = "", kept = false) {
  const page = await browser.open(`${server.controlUrl}/console${hash}`);
  await page.run(submit, ".sign-in", { id, secret, kept });
  await page.until(() => document.querySelector("main h1"), "it is signed in");
  return page;
}
const roomHash = (arn) => `#/room/${encodeURIComponent(arn)}`;

test("a stranger sees a form, and the page allows nothing that it does not need", async () => {
  const answer = await fetch(`${server.controlUrl}/console`);
  const policy = answer.headers.get("content-security-policy");
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; /);
  for (const part of ["frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(policy.includes(part), part);
  }
  assert.equal(answer.headers.get("set-cookie"), null);
  const text = await answer.text();
  assert.ok(!/ (style|on[a-z]+)=|<style|<script>/.test(text), "nothing inline");
  assert.ok(!text.includes("lobby") && !text.includes("arn:"), "nothing of the server");
  for (const operation of ["GetStats", "GetServer", "FindRooms", "DrainServer"]) {
    const refused = await fetch(`${server.controlUrl}/uproar/v1/${operation}`, { method: "POST", body: "{}" });
    assert.equal(refused.status, 403, operation);
    assert.equal((await refused.json()).message, "Request is missing Authentication Token");
  }
  const page = await browser.open(`${server.controlUrl}/console#/rooms`);
  await page.until(() => document.querySelector(".sign-in"), "the form");
  await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: "wrong" });
  await page.until(() => document.querySelector(".problem:not([hidden])")?.textContent, "it is refused");
  assert.equal(await page.run(() => document.querySelector("main")), null);
  assert.equal(await page.run(() => Object.keys(sessionStorage).length), 0, "a refused key is not kept");
});

test("the secret stays in the page: it is in no request and, unless it is to be kept, in no storage", async () => {
  const page = await signedIn();
  await page.until(() => document.querySelector(".tile b"), "the figures");
  assert.equal(await page.run(() => Object.keys(sessionStorage).length + Object.keys(localStorage).length), 0);
  assert.equal(await page.run(() => document.cookie), "");
  const hosts = new Set(page.requests.map((url) => new URL(url).host).filter(Boolean));
  assert.deepEqual([...hosts], [new URL(server.controlUrl).host], "nothing from anywhere else");
  assert.ok(page.requests.every((url) => !url.includes(credentials.secretAccessKey)));
  await page.ask("Page.reload");
  await page.until(() => document.querySelector(".sign-in"), "it asks again");
  const kept = await signedIn(credentials, "", true);
  await kept.ask("Page.reload");
  await kept.until(() => document.querySelector(".tile"), "it is signed in again");
  await kept.run(press, "Sign out");
  await kept.until(() => document.querySelector(".sign-in"), "it is signed out");
  assert.equal(await kept.run(() => Object.keys(sessionStorage).length), 0);
});

test("the overview shows viewers, rates and fan-out, and a fresh page the minutes before", async () => {
  const arn = await uproar("room", "create", "overview");
  const people = await Promise.all(["ann", "bob", "cleo"].map((name) => server.join(arn, name)));
  const page = await signedIn();
  await page.until(() => document.querySelector(".tile b")?.textContent === "3", "three viewers");
  const talk = setInterval(() => people[0].send("hello").catch(() => {}), 50);
  await page.until(
    () => /p99 \d+(\.\d)? (µs|ms)/.test([...document.querySelectorAll(".chart")][2].querySelector(".plot").getAttribute("aria-label")),
    "the fan-out's times",
  );
  clearInterval(talk);
  await page.until(() => [...document.querySelectorAll(".ranking a")].some((link) => link.textContent === "overview"), "the largest rooms");
  const fresh = await signedIn();
  await fresh.until(() => document.querySelectorAll(".chart .line").length > 4, "it has what was before it");
  assert.deepEqual([page.faults, fresh.faults], [[], []]);
  people.forEach((viewer) => viewer.leave());
});
