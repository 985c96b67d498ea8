// The operator's page for everybody: axe-core over each view and dialog, from a phone to a desk, light and dark; and over TLS.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SendEventCommand } from "@aws-sdk/client-ivschat";

import { Browser, stage, tooWide } from "./browser.mjs";
import { press, roomHash, shows, signIn, submit } from "./console.mjs";
import { Server, credentials } from "./harness.mjs";

const staged = stage();
const LONG = "a-name-as-long-as-it-may-be-".repeat(4);
const SIZES = [[1280, 800], [820, 1180], [360, 740]];

/** Nothing is wrong, nothing sticks out. */
async function isWell(page, where) {
  assert.deepEqual(await page.accessibility(), [], where);
  assert.deepEqual(await page.run(tooWide, ".scroll"), [], where);
}

test("axe finds nothing in any view or dialog, at three widths, in both schemes", async () => {
  const { server, browser } = staged;
  const arn = await server.room({ name: "looked-at" });
  await server.room({ name: LONG });
  const people = await Promise.all([LONG.slice(0, 100), "ann", "bob"].map((name) => server.join(arn, name)));
  const talk = setInterval(() => people[1].send(`hello ${"x".repeat(200)}`).catch(() => {}), 100);
  const views = [
    ["#/overview", ".ranking a"],
    ["#/rooms", ".list tbody tr"],
    [roomHash(arn), ".messages .message"],
    ["#/users", "form.tools"],
    ["#/operations", ".facts dd"],
  ];
  const dialogs = { "#/rooms": ["Create room"], [roomHash(arn)]: ["Delete room", "Kick ann"], "#/operations": ["Upgrade"] };
  for (const [width, height] of SIZES) {
    for (const dark of [false, true]) {
      const where = `${width} px, ${dark ? "dark" : "light"}`;
      const page = await browser.open(`${server.controlUrl}/console`);
      await page.resize(width, height, dark);
      await page.until(() => document.querySelector(".sign-in"), "the form");
      await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: "wrong" });
      await page.until(() => document.querySelector(".problem:not([hidden])"), "it is refused");
      await isWell(page, `sign-in, ${where}`);
      await page.run(submit, ".sign-in", { id: credentials.accessKeyId, secret: credentials.secretAccessKey });
      await page.until(() => document.querySelector(".shell h1"), "it is signed in");
      for (const [hash, part] of views) {
        await page.run((to) => (location.hash = to), hash);
        await page.until((part) => document.querySelector(`.shell main ${part}`), `${hash} is there`, part);
        if (hash === "#/users") {
          await page.run(submit, ".shell main form", { user: "ann" });
          await page.until(shows, "the room", "looked-at", ".found");
        }
        await isWell(page, `${hash}, ${where}`);
        const isBelowHeader = () =>
          document.querySelector(".shell h1").getBoundingClientRect().top >= document.querySelector("header").getBoundingClientRect().bottom;
        assert.ok(await page.run(isBelowHeader), `the heading of ${hash} is seen, ${where}`);
        for (const name of dialogs[hash] ?? []) {
          await page.run(press, name, name.startsWith("Kick") ? ".people" : ".shell");
          await page.until(() => document.querySelector("dialog[open]"), name);
          await isWell(page, `${name}, ${where}`);
          await page.run(() => document.querySelector("dialog[open]").close());
        }
      }
      // The browser notes the refused sign-in.
      assert.deepEqual(page.faults.filter((fault) => !fault.includes("403")), [], where);
    }
  }
  clearInterval(talk);
  people.forEach((viewer) => viewer.leave());
});

test("over TLS the page signs, listens and tells of the certificate", async () => {
  const server = await Server.start({ extra: ["--tls"] });
  // What trust in a certificate is worth, the TLS suites say.
  const browser = await Browser.launch(["--ignore-certificate-errors"]);
  const arn = await server.room({ name: "sealed" });
  const page = await signIn({ browser, server }, credentials, roomHash(arn));
  await page.until(() => document.querySelector(".tail .badge").textContent === "live", "it listens");
  assert.match(await page.run(() => location.href), /^https:/);
  await server.api.send(new SendEventCommand({ roomIdentifier: arn, eventName: "sealed-event" }));
  await page.until(shows, "the event", "sealed-event", ".messages");
  await page.run(() => (location.hash = "#/operations"));
  await page.until(shows, "both listeners speak TLS", "messaging and control");
  assert.ok(await page.run(shows, "localhost"), "the certificate's names");
  assert.deepEqual(page.faults, []);
  await browser.close();
  await server.stop();
});
