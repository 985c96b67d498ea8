// The demo page with its features on, in a real browser: what IVS Chat lacks, as moderators and viewers meet it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { TagResourceCommand, UntagResourceCommand } from "@aws-sdk/client-ivschat";

import { stage, tooWide } from "./browser.mjs";
import { Server, until } from "./harness.mjs";

const staged = stage();
const pageUrl = () => staged.server.url.replace(/^ws/, "http");


// -- what people do on the page; these functions run in it --

const say = (text) => {
  const form = document.querySelector(".say");
  form.content.value = text;
  form.requestSubmit();
};
const shows = (text) => document.querySelector(".messages").innerText.includes(text);
const isIn = (state) => document.querySelector(".state").dataset.state === state;
const isFeatured = (on) => document.querySelector(".viewer").classList.contains("featured") === on;
const hold = () => document.querySelector(".hold:not([hidden])")?.textContent ?? "";
const holds = (part) => document.querySelector(".hold:not([hidden])")?.textContent.includes(part);
const pressed = (selector) => document.querySelector(selector).click();
const chips = () => document.querySelector(".chips").innerText;
const boxes = () => document.querySelectorAll(".box:popover-open").length;
const pick = (text) => [...document.querySelectorAll("[role=menuitem]")].find((item) => item.textContent.includes(text)).click();
const openMenuOf = (text) => {
  const line = [...document.querySelectorAll(".messages li")].find((item) => item.textContent.includes(text));
  line.querySelector(".more").click();
};

async function viewer(name, role = "viewer") {
  const page = await staged.browser.open(`${pageUrl()}/?user=${name}&role=${role}`);
  await page.until(isIn, `${name} is connected`, "connected");
  return page;
}

async function featured(on, ...pages) {
  const { key } = await (await fetch(`${pageUrl()}/demo/token?user=u`)).json();
  const answer = await fetch(`${pageUrl()}/demo/features?on=${Number(on)}&key=${key}`);
  assert.equal(answer.status, 200);
  for (const page of pages) await page.until(isFeatured, "the page knows", on);
}

/** By the menu of a line of `text`. */
async function menu(page, text, item) {
  await page.run(openMenuOf, text);
  await page.until((text) => document.querySelector("[role=menu]")?.textContent.includes(text), item, item);
  await page.run(pick, item);
}

/** A mode, by the box that opens at the button Room. */
async function mode(page, label, value) {
  await page.run(pressed, ".room-menu");
  await page.run((label, value) => {
    const select = [...document.querySelectorAll(".modes label")].find((item) => item.textContent.includes(label)).querySelector("select");
    select.value = value;
    select.dispatchEvent(new Event("change"));
    document.querySelector(".modes").hidePopover();
  }, label, value);
}

test("the room is IVS Chat's until somebody throws the switch, and again afterwards", async () => {
  const page = await viewer("plain", "moderator");
  const seen = () => [...document.querySelectorAll(".reactions, .room-menu, .tools .more, .chips, .pinned")].filter((element) => element.checkVisibility()).length;
  await page.run(say, "before");
  await page.until(shows, "it chats", "before");
  assert.equal(await page.run(seen), 0, "nothing of it");
  const arn = (await (await fetch(`${pageUrl()}/demo/token?user=u`)).json()).room;
  // On the wire, too: a message with our attribute is a message, with it, for everybody.
  const raw = await staged.server.join(arn, "raw");
  const events = raw.events.length;
  await raw.send("plain data", { "uproar:do": "clear" });
  await page.until(shows, "everybody gets it", "plain data");
  assert.equal(raw.events.length, events, "no state, no history");

  await page.run(pressed, "#toggle-features");
  await page.until(() => !document.getElementById("features-switch").disabled, "it is offered");
  await page.run(pressed, "#features-switch");
  await page.until(() => document.getElementById("features-switch").getAttribute("aria-checked") === "true", "it is on");
  await page.until(isFeatured, "the page follows", true);
  await until(() => raw.events.some((event) => event.eventName === "uproar:room"), "members are told");
  assert.match(await page.until(() => document.querySelector(".crowd").textContent, "the count"), /^\d+ watching/);
  await page.run(pressed, "#features-switch");
  await page.until(isFeatured, "off", false);
  await page.until(() => document.querySelector(".crowd").textContent === "", "no count");
  await raw.send("plain again", { "uproar:do": "clear" });
  await page.until(shows, "a message again", "plain again");
  raw.room.disconnect();
  assert.deepEqual(page.faults, []);
});

test("who joins later sees what was said before, marked, and the pin", async () => {
  const host = await viewer("hist-host", "moderator");
  await featured(true, host);
  for (const text of ["first words", "second words", "third words"]) await host.run(say, text);
  await host.until(shows, "they are said", "third words");
  await menu(host, "second words", "Pin for everybody");
  await host.until(() => document.querySelector(".pinned:not([hidden])")?.innerText.includes("second words"), "it is pinned");
  await host.until(shows, "only the host hears so", "only you see this");
  const late = await viewer("late");
  await late.until(shows, "the history", "third words");
  await late.until(shows, "a line below it", "said before you came");
  await late.until(() => document.querySelector(".pinned:not([hidden])")?.innerText.includes("pinned by hist-host"), "the pin is the first thing told");
  assert.equal(await late.run(() => document.querySelectorAll(".messages .older").length >= 3), true);
  assert.equal(await late.run(shows, "only you see this"), false);
  await host.run(pressed, ".unpin");
  await late.until(() => document.querySelector(".pinned").hidden, "unpinned");
});

test("slow mode counts down, and is lifted", async () => {
  const host = await viewer("slow-host", "moderator");
  const guest = await viewer("slow-guest");
  await featured(true, host, guest);
  await mode(host, "Slow mode", "30");
  await guest.until((text) => document.querySelector(".chips").innerText.includes(text), "all are told", "one message in 30 s");
  await guest.run(say, "one");
  await guest.until(shows, "it is said", "one");
  assert.match(await guest.until(hold, "a countdown"), /^Slow mode: you may write again in \d+ s\.$/);
  assert.match(await guest.run(() => document.querySelector(".send").textContent), /^\d+ s$/);
  // Whoever sends all the same hears the same, and loses nothing.
  await guest.run(say, "two, too early");
  await guest.until(() => document.querySelector(".say").content.value === "two, too early", "it is back in the field");
  assert.equal(await guest.run(() => document.querySelector(".problem").hidden), true, "the countdown says it all");
  await mode(host, "Slow mode", "off");
  await guest.until(() => document.querySelector(".send").textContent === "Send", "lifted");
  assert.equal(await guest.run(chips), "");
  await guest.run(() => document.querySelector(".say").requestSubmit());
  await guest.until(shows, "now it is said", "two, too early");

  await mode(host, "Who may write", "none");
  await guest.until(holds, "closed", "The chat is closed");
  assert.equal(await guest.run(() => document.querySelector(".say").content.disabled), true);
  await host.run(say, "the host speaks");
  await guest.until(shows, "moderators are never held back", "the host speaks");
  await mode(host, "Who may write", "all");
  await guest.until(() => !document.querySelector(".say").content.disabled, "open again");
});

test("a time-out, its end by a moderator, a purge and a ban, as both sides see them", async () => {
  const host = await viewer("stern", "moderator");
  const rude = await viewer("rude");
  await featured(true, host, rude);
  for (const text of ["spam a", "spam b"]) await rude.run(say, text);
  await host.until(shows, "the host sees it", "spam b");
  await menu(host, "spam a", "Time out for 10 minutes");
  await rude.until(holds, "the victim is told", "You are timed out");
  await host.until(shows, "the answer", "rude is timed out for 600 s");
  await rude.run(say, "let me");
  await rude.until(() => document.querySelector(".say").content.value === "let me", "refused, not lost");
  assert.match(await rude.run(hold), /timed out: \d+ s left/);
  await host.run(pressed, ".lift");
  await host.until(shows, "lifted", "rude is not banned any more");
  await rude.run(() => document.querySelector(".say").requestSubmit());
  await rude.until(shows, "it is said", "let me");
  await rude.until(() => document.querySelector(".hold").hidden, "nothing holds any more");

  await menu(host, "spam a", "Remove all messages of rude");
  for (const page of [host, rude]) {
    await page.until(shows, "told once", "All messages of rude were removed");
    assert.equal(await page.run(shows, "spam b"), false, "their texts are gone");
  }
  await rude.run(say, "still here");
  await host.until(shows, "so it is", "still here");
  await menu(host, "still here", "Ban rude");
  await rude.until(isIn, "thrown out", "closed");
  assert.match(await rude.run(() => document.querySelector(".state").textContent), /moderated/);
  await rude.run(() => document.querySelector(".join").requestSubmit());
  await rude.until(() => document.querySelector(".state").textContent.startsWith("You are banned from this room"), "and stays out, told why");
  assert.deepEqual(host.faults, []);
});

test("a held message waits for a moderator, who allows one and denies another", async () => {
  const host = await viewer("held-host", "moderator");
  const guest = await viewer("held-guest");
  const other = await viewer("held-other");
  await featured(true, host, guest, other);
  const { room } = await (await fetch(`${pageUrl()}/demo/token?user=u`)).json();
  await staged.server.call("PutRuleSet", { name: "desk", rules: [{ id: "unsure", kind: "words", patterns: ["hmm"], action: "hold" }] });
  await staged.server.client().send(new TagResourceCommand({ resourceArn: room, tags: { "uproar:rules": "desk" } }));
  const decide = (text, label) => {
    const line = [...document.querySelectorAll(".messages .waits")].find((item) => item.textContent.includes(text));
    [...line.querySelectorAll("button")].find((button) => button.textContent === label).click();
  };
  for (const text of ["hmm good", "hmm bad"]) {
    await guest.run(say, text);
    await host.until(shows, "the host is asked", `held-guest: ${text}`);
    await guest.until(shows, "the sender knows", "waits for a moderator");
  }
  assert.deepEqual(await host.accessibility(), []);
  await host.run(decide, "hmm good", "Allow");
  await other.until(shows, "it is said", "hmm good");
  await host.run(decide, "hmm bad", "Deny");
  await host.until(shows, "it is settled", "denied, by held-host");
  await guest.until(shows, "the sender is told", "never said: denied, by held-host");
  assert.equal(await guest.run(shows, "waits for a moderator"), false);
  assert.equal(await other.run(shows, "hmm bad"), false);
  assert.equal(await host.run(() => document.querySelectorAll(".messages .waits button").length), 0);
  await staged.server.client().send(new UntagResourceCommand({ resourceArn: room, tagKeys: ["uproar:rules"] }));
  assert.deepEqual([host.faults, guest.faults, other.faults], [[], [], []]);
});

test("a poll is opened, voted in once, and closed; hearts are summed", async () => {
  const host = await viewer("poll-host", "moderator");
  const voter = await viewer("voter");
  await featured(true, host, voter);
  await host.run(pressed, "#toggle-features");
  await host.until(() => !document.querySelector("#poll-form .primary").disabled, "polls are offered");
  await host.run(() => {
    const form = document.getElementById("poll-form");
    form.question.value = "Who <b>wins</b>?";
    form.requestSubmit();
  });
  const reads = (at, text) => document.querySelectorAll(".poll .option")[at]?.innerText.replace(/\s+/g, " ").trim() === text;
  await voter.until(() => document.querySelector(".poll h2")?.textContent === "Who <b>wins</b>?", "all see it, as text");
  await voter.run(() => document.querySelectorAll(".poll .option")[1].click());
  for (const page of [host, voter]) await page.until(reads, "it counts", 1, "Blue 1 vote, 100 %");
  assert.equal(await voter.run(() => document.querySelector(".poll .option").disabled), true, "one vote");
  const again = await viewer("voter");
  await again.until(() => document.querySelector(".poll .option"), "who joins is told of it");
  await again.run(() => document.querySelector(".poll .option").click());
  await again.until(() => document.querySelector(".poll .foot").textContent.includes("You have voted already"), "the name has voted");
  await host.until(() => !document.getElementById("poll-stop").hidden, "it can be closed");
  await host.run(pressed, "#poll-stop");
  await voter.until(shows, "the outcome", "Poll closed. Who <b>wins</b>? Blue, 1 of 1 vote");
  assert.equal(await voter.run(reads, 0, "Red 0 votes, 0 %"), true);
  await voter.run(pressed, ".poll .away");

  await voter.run(() => {
    for (let i = 0; i < 3; i++) document.querySelector(".react.heart").click();
  });
  for (const page of [host, voter]) {
    await page.until(() => document.querySelector(".react.heart .count").textContent === "3", "the sum of all");
    assert.equal(await page.run(shows, "reaction"), false, "no line in the chat");
  }
  assert.deepEqual([host.faults, voter.faults], [[], []]);
});

test("the endpoints want the page's key, and a poll wants options", async () => {
  const { key } = await (await fetch(`${pageUrl()}/demo/token?user=u`)).json();
  const ask = async (path) => (await fetch(`${pageUrl()}/demo/${path}`)).status;
  for (const path of ["features?on=1", `features?on=1&key=${key.slice(1)}`, "poll?question=q&options=a%0Ab&seconds=9", "poll?stop=demo-1"]) {
    assert.equal(await ask(path), 403, path);
  }
  for (const path of [`features?key=${key}`, `features?on=2&key=${key}`, `poll?question=q&options=a&seconds=9&key=${key}`, `poll?options=a%0Ab&seconds=9&key=${key}`]) {
    assert.equal(await ask(path), 400, path);
  }
});

test("a server without extensions says so, and keeps the switch shut", async () => {
  const own = await Server.start({ environment: { UPROAR_EXTENSIONS__ENABLED: "false" } });
  try {
    const page = await staged.browser.open(`${own.url.replace(/^ws/, "http")}/?user=u#features`);
    await page.until(() => document.getElementById("features-none").checkVisibility(), "it is said");
    assert.equal(await page.run(() => document.getElementById("features-switch").disabled), true);
  } finally {
    await own.stop();
  }
});

// -- everybody can use it --

const ASIDE = "pre, .sky, .spoken";

test("menus work by the keyboard: open, arrows, Escape, and the focus is back", async () => {
  const host = await viewer("keys-host", "moderator");
  await featured(true, host);
  await host.run(say, "words of mine");
  await host.until(shows, "said", "words of mine");
  await host.run(() => {
    const line = [...document.querySelectorAll(".messages li")].find((item) => item.textContent.includes("words of mine"));
    document.querySelector(".messages").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp", bubbles: true }));
    line.querySelector(".more").focus();
  });
  await host.key("Enter", "\r");
  const focused = () => document.activeElement.textContent;
  await host.until(() => document.activeElement.getAttribute("role") === "menuitem", "the menu has the focus");
  assert.equal(await host.run(focused), "Pin for everybody");
  await host.key("ArrowDown");
  assert.equal(await host.run(focused), "Remove all messages of keys-host", "nobody times out himself");
  await host.key("Escape");
  assert.equal(await host.run(boxes), 0);
  assert.equal(await host.run(() => document.activeElement.getAttribute("aria-label")), "More about keys-host");
});

test("axe finds nothing, in both schemes, at a desk and on a phone", async () => {
  const host = await viewer("axe-host", "moderator");
  const guest = await viewer("axe-guest");
  await featured(true, host, guest);
  await guest.run(say, "a line to moderate");
  await host.until(shows, "there", "a line to moderate");
  await menu(host, "a line to moderate", "Pin for everybody");
  await mode(host, "Slow mode", "60");
  await menu(host, "a line to moderate", "Time out for 1 minute");
  await host.run(pressed, "#toggle-features");
  await host.until(() => !document.querySelector("#poll-form .primary").disabled, "polls are offered");
  await host.run(() => document.getElementById("poll-form").requestSubmit());
  for (const page of [host, guest]) await page.until(() => document.querySelector(".poll .option"), "the poll");
  await guest.until(holds, "the time-out", "timed out");
  for (const [width, height, dark] of [[1280, 800, false], [1280, 800, true], [360, 740, false], [390, 844, true]]) {
    for (const [name, page] of [["host", host], ["guest", guest]]) {
      await page.resize(width, height, dark);
      const where = `${name}, ${width} px, ${dark ? "dark" : "light"}`;
      assert.deepEqual(await page.accessibility(), [], where);
      assert.deepEqual(await page.run(tooWide, ASIDE), [], where);
    }
    for (const open of [".room-menu", ".messages .more"]) {
      await host.run(pressed, open);
      assert.deepEqual([await host.accessibility(), await host.run(tooWide, ASIDE)], [[], []], `${open}, ${width} px`);
      await host.key("Escape");
    }
  }
  await mode(host, "Slow mode", "off");
  await host.run(pressed, ".unpin");
  await host.run(pressed, "#poll-stop");
});
