// The operator's page in a real browser, beside viewers of the official client: signed in with a key, it shows what is
// there and does what its buttons say; without a key it is a form and nothing else.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { CreateLoggingConfigurationCommand } from "@aws-sdk/client-ivschat";

import { stage } from "./browser.mjs";
import { press, roomHash, shows, signIn, submit } from "./console.mjs";
import { Server, binary, credentials, until } from "./harness.mjs";

const run = promisify(execFile);
const HURT = "<img src=x onerror=document.title='hurt'>";

const staged = stage();

const uproar = async (...words) => (await run(binary, [...words, "--data-dir", staged.server.dataDir])).stdout.trim();
const key = async (...words) => {
  const made = await uproar("keys", "create", ...words);
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = Object.fromEntries(made.split("\n").map((line) => line.split("=")));
  return { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY };
};

const signedIn = (key = credentials, hash = "", kept = false) => signIn(staged, key, hash, kept);

test("a stranger sees a form, and the page allows nothing that it does not need", async () => {
  const answer = await fetch(`${staged.server.controlUrl}/console`);
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
    const refused = await fetch(`${staged.server.controlUrl}/uproar/v1/${operation}`, { method: "POST", body: "{}" });
    assert.equal(refused.status, 403, operation);
    assert.equal((await refused.json()).message, "Request is missing Authentication Token");
  }
  const page = await staged.browser.open(`${staged.server.controlUrl}/console#/rooms`);
  await page.until(() => document.querySelector(".sign-in"), "the form");
  await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: "wrong" });
  await page.until(() => document.querySelector(".problem:not([hidden])")?.textContent, "it is refused");
  assert.equal(await page.run(() => document.querySelector(".shell")), null);
  assert.equal(await page.run(() => Object.keys(sessionStorage).length), 0, "a refused key is not kept");
});

test("the secret stays in the page: it is in no request and, unless it is to be kept, in no storage", async () => {
  const page = await signedIn();
  await page.until(() => document.querySelector(".tile b"), "the figures");
  assert.equal(await page.run(() => Object.keys(sessionStorage).length + Object.keys(localStorage).length), 0);
  assert.equal(await page.run(() => document.cookie), "");
  const hosts = new Set(page.requests.map((url) => new URL(url).host).filter(Boolean));
  assert.deepEqual([...hosts], [new URL(staged.server.controlUrl).host], "nothing from anywhere else");
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
  const people = await Promise.all(["ann", "bob", "cleo"].map((name) => staged.server.join(arn, name)));
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

test("a room is created and found; what is said in it is text, and is deleted; users are found and kicked", async () => {
  const page = await signedIn(credentials, "#/rooms");
  await page.until(() => document.querySelector(".list tbody tr"), "the rooms");
  await page.run(press, "Create room");
  await page.run(submit, "dialog[open] form", { name: "made-here" });
  await page.until(() => document.querySelector("main h1").textContent === "made-here", "its view");
  const arn = decodeURIComponent((await page.run(() => location.hash)).split("/room/")[1]);
  await page.until(() => document.querySelector(".tail .badge").textContent === "live", "it listens");

  const mallory = await staged.server.join(arn, HURT, { capabilities: ["SEND_MESSAGE"], attributes: { badge: HURT } });
  const bob = await staged.server.join(arn, "bob");
  await mallory.send(HURT);
  await page.until(shows, "the message", HURT, ".messages .content");
  await page.run(submit, ".side form", { name: "goal", attributes: `team=${HURT}\nat=90` });
  await until(() => bob.events.length, "the event arrives");
  assert.deepEqual([bob.events[0].eventName, bob.events[0].attributes], ["goal", { team: HURT, at: "90" }]);
  await page.until(shows, "the event", `team=${HURT}`, ".messages");
  assert.equal(await page.run(() => document.images.length), 0, "markup is text");
  await page.run(press, `Delete the message of ${HURT}`);
  await until(() => bob.deletions.length, "bob hears the deletion");
  await page.until(() => document.querySelector(".messages .deleted"), "it is struck");

  await page.run(() => (location.hash = "#/users"));
  await page.until(() => document.querySelector("main form.tools"), "the users' view");
  await page.run(submit, "main form.tools", { user: "nobody" });
  await page.until(shows, "nobody is not there", "nobody is not connected");
  await page.run(submit, "main form.tools", { user: HURT });
  await page.until(shows, "the room", "made-here", ".found");
  await page.run(press, "Kick", ".found");
  await page.run(press, "Kick", "dialog");
  await until(() => mallory.states.some((state) => state.startsWith("disconnect")), "the user is out");
  await page.until(shows, "and is not found any more", "is not connected", ".found");
  await bob.send("still here");
  assert.deepEqual(page.faults, []);

  await page.run((hash) => (location.hash = hash), roomHash(arn));
  await page.until(() => document.querySelector(".side [name=rate]")?.value === "10", "the settings");
  await page.run(submit, ".side .card:last-child form", { rate: "7" });
  await until(async () => JSON.parse(await uproar("room", "show", "made-here", "--json")).settings.maximumMessageRatePerSecond === 7, "saved");
  await page.run(press, "Delete room");
  await page.until(() => document.querySelector("dialog .danger").disabled, "the name must be typed");
  await page.run(() => {
    const input = document.querySelector("dialog input");
    input.value = "made-here";
    input.dispatchEvent(new Event("input"));
  });
  await page.run(press, "Delete room", "dialog");
  await page.until(() => location.hash === "#/rooms", "it is deleted");
  await until(() => bob.states.some((state) => state.startsWith("disconnect")), "bob is out");
  assert.deepEqual(page.faults, []);
});

test("a search finds rooms by a part of their name, in any case", async () => {
  for (const name of ["Goalkeepers", "goal-line", "offside"]) await uproar("room", "create", name);
  const page = await signedIn(credentials, "#/rooms");
  await page.until(() => document.querySelectorAll(".list tbody tr").length > 2, "the rooms");
  await page.run(() => {
    const input = document.querySelector("[name=text]");
    input.value = "GOAL";
    input.dispatchEvent(new Event("input"));
  });
  const names = () => [...document.querySelectorAll(".list tbody a")].map((link) => link.textContent).sort().join();
  await page.until(() => document.querySelectorAll(".list tbody tr").length === 2, "two are left");
  assert.equal(await page.run(names), "Goalkeepers,goal-line");
});

test("rooms are ordered by their viewers, by what is said in them, and by their last change", async () => {
  const arns = {};
  for (const name of ["order-full", "order-loud", "order-fresh"]) arns[name] = await uproar("room", "create", name);
  const people = await Promise.all([1, 2, 3, 4].map((number) => staged.server.join(arns["order-full"], `u${number}`)));
  const talker = await staged.server.join(arns["order-loud"], "talker");
  const talk = setInterval(() => talker.send("hello").catch(() => {}), 20);
  const page = await signedIn(credentials, "#/rooms");
  const orderBy = (value) => {
    const select = document.querySelector("[name=sort]");
    select.value = value;
    select.dispatchEvent(new Event("change"));
  };
  const isFirst = (name) => document.querySelector(".list tbody a")?.textContent === name;
  for (const [by, first] of [["viewers", "order-full"], ["rate", "order-loud"], ["changed", "order-fresh"], ["viewers", "order-full"]]) {
    await page.run(orderBy, by);
    await page.until(isFirst, `${first} is first by ${by}`, first);
  }
  clearInterval(talk);
  [talker, ...people].forEach((viewer) => viewer.leave());
  for (const arn of Object.values(arns)) await uproar("room", "delete", arn);
  assert.deepEqual(page.faults, []);
});

test("what the machine does not carry is said with its reason; so are log destinations and the certificate", async () => {
  const own = await Server.start({ environment: { UPROAR_QUOTAS__CONNECTIONS: "50000000" } });
  const page = await staged.browser.open(`${own.controlUrl}/console#/operations`);
  await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: credentials.secretAccessKey });
  await page.until(shows, "no destination yet", "No logging configuration exists.");
  await page.until(() => document.querySelector(".warnings li"), "memory for fifty million viewers is not here");
  const warning = await page.run(() => document.querySelector(".warnings li").innerText);
  assert.match(warning, / is .+, needed is .+\. .+/);
  await page.until(shows, "no certificate", "The listeners speak no TLS");
  const s3 = { s3: { bucketName: "chat-logs" } };
  await own.api.send(new CreateLoggingConfigurationCommand({ name: "evening", destinationConfiguration: s3 }));
  const fresh = await staged.browser.open(`${own.controlUrl}/console#/operations`);
  await fresh.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: credentials.secretAccessKey });
  await fresh.until(shows, "its name", "evening");
  assert.ok(await fresh.run(() => [...document.querySelectorAll(".plain .badge")].some((badge) => badge.textContent === "active")));
  assert.ok(await fresh.run(shows, "chat-logs"), "and where it goes");
  assert.deepEqual([page.faults, fresh.faults], [[], []]);
  await own.stop();
});

test("a key that only looks sees everything and changes nothing", async () => {
  const arn = await uproar("room", "create", "looked-at");
  const observer = await key("--role", "observe");
  const ann = await staged.server.join(arn, "ann");
  const page = await signedIn(observer, roomHash(arn));
  await page.until(() => document.querySelector(".tail .badge").textContent === "live", "it listens");
  await ann.send("seen");
  await page.until(shows, "the message", "seen", ".messages");
  await page.run(press, "Delete the message of ann");
  await page.until(shows, "a refusal in the server's words", "not authorized to perform: ivschat:DeleteMessage", "#notes");
  await page.run(() => (location.hash = "#/operations"));
  await page.until(shows, "the server", "Open files, at most");
  await page.run(press, "Reload");
  await page.until(shows, "another refusal", "ivschat:ReloadServer", "#notes");
  const mint = await key("--role", "mint");
  const other = await staged.browser.open(`${staged.server.controlUrl}/console`);
  await other.run(submit, ".sign-in", { id: mint.accessKeyId, secret: mint.secretAccessKey });
  await other.until(shows, "no view for it", "not authorized to perform: ivschat:Get", ".problem");
  await uproar("keys", "revoke", observer.accessKeyId);
  // A page that nobody looks at asks for nothing.
  await page.ask("Page.bringToFront");
  await page.until(() => document.querySelector(".sign-in .problem:not([hidden])"), "a revoked key is signed out");
  assert.deepEqual(await page.run(() => document.querySelectorAll(".messages, .tile").length), 0);
});

test("by keyboard alone, with names for those who do not see; a phone shows all without scrolling sideways", async () => {
  const page = await staged.browser.open(`${staged.server.controlUrl}/console`);
  await page.until(() => document.activeElement?.name === "id", "the form has the focus");
  const type = (text) => page.ask("Input.insertText", { text });
  const strike = async (name, code) => {
    for (const kind of ["keyDown", "keyUp"]) {
      const text = name === "Enter" && kind === "keyDown" ? "\r" : undefined;
      await page.ask("Input.dispatchKeyEvent", { type: kind, key: name, code: name, windowsVirtualKeyCode: code, text });
    }
  };
  await type(credentials.accessKeyId);
  await strike("Tab", 9);
  await type(credentials.secretAccessKey);
  await strike("Enter", 13);
  await page.until(() => document.querySelector(".shell h1"), "it is signed in");
  for (let strikes = 0; !(await page.run(() => document.activeElement.textContent === "Operations")); strikes += 1) {
    assert.ok(strikes < 12, "the views are reached by Tab");
    await strike("Tab", 9);
  }
  await strike("Enter", 13);
  await page.until(() => document.querySelector("main h1").textContent === "Operations", "the view");
  const nameless = () => {
    const named = (element) =>
      element.getAttribute("aria-label") || element.labels?.length || element.textContent.trim() || element.closest("label");
    const elements = document.querySelectorAll("button, input, select, textarea, a, [role=img], progress");
    return [...elements].filter((element) => !named(element)).map((element) => element.outerHTML);
  };
  const wide = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const arn = await uproar("room", "create", "a-name-as-long-as-it-may-be-".repeat(4));
  for (const dark of [false, true]) {
    await page.picture(360, 740, dark);
    for (const hash of ["#/overview", "#/rooms", roomHash(arn), "#/users", "#/operations"]) {
      await page.run((to) => (location.hash = to), hash);
      await page.until(() => document.activeElement.id === "main", "the view has the focus");
      assert.deepEqual(await page.run(nameless), [], hash);
      assert.ok((await page.run(wide)) <= 0, `${hash} is too wide`);
      assert.equal(await page.run(() => document.querySelectorAll("h1").length), 1, hash);
    }
  }
  assert.deepEqual(page.faults, []);
});

test("a drain is begun, seen and cancelled; a reload tells what it changed; an upgrade carries the page over", async () => {
  const own = await Server.start({ quotas: "open" });
  const page = await staged.browser.open(`${own.controlUrl}/console#/operations`);
  await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: credentials.secretAccessKey });
  await page.until(shows, "the server", "Open files, at most");
  const made = await run(binary, ["room", "create", "kept", "--data-dir", own.dataDir]);
  const viewer = await own.join(made.stdout.trim(), "ann");
  await page.run(press, "Reload");
  await page.until(shows, "the reload", "Reloaded", "#notes");
  await page.run(submit, "main form", { notice: "600", over: "600" });
  await page.run(() => {
    const input = document.querySelector("dialog input");
    input.value = "drain";
    input.dispatchEvent(new Event("input"));
  });
  await page.run(press, "Drain", "dialog");
  await page.until(shows, "it drains", "Draining (noticed)");
  await page.until(() => document.querySelector("header .badge").textContent === "draining: noticed", "the badge");
  assert.equal((await fetch(`${own.controlUrl}/readyz`)).status, 503);
  await page.run(press, "Cancel the drain");
  await page.until(shows, "it serves", "Serving 1 viewers.");
  const pid = await page.run(() => document.querySelector(".facts dd:nth-of-type(2)").textContent);
  await page.run(press, "Upgrade");
  await page.run(press, "Upgrade", "dialog");
  await page.until(shows, "the new process", "serves, with 1 viewers", "#notes");
  const health = JSON.parse((await run(binary, ["health", "--json", "--data-dir", own.dataDir])).stdout);
  assert.notEqual(String(health.pid), pid);
  await viewer.send("still here");
  process.kill(health.pid, "SIGTERM");
  await page.until(() => document.querySelector("header .badge").textContent === "no answer", "its end shows");
  await own.stop().catch(() => {});
});

test("switched off there is neither page nor API", async () => {
  const off = await Server.start({ environment: { UPROAR_CONTROL__CONSOLE: "false" } });
  assert.equal((await fetch(`${off.controlUrl}/console`)).status, 404);
  const call = await fetch(`${off.controlUrl}/uproar/v1/GetStats`, { method: "POST", body: "{}" });
  assert.equal(call.status, 404);
  assert.equal(call.headers.get("x-amzn-errortype"), "UnknownOperationException");
  assert.match((await call.json()).message, /control\.console = true/);
  await off.stop();
});
