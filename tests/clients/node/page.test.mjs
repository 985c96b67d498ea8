// The demo page in a real browser: what a newcomer sees in the first minute.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { stage, tooWide } from "./browser.mjs";
import { Server, flakyProxy, until } from "./harness.mjs";

const staged = stage();

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

async function viewer(name, role = "viewer", url = staged.server.url) {
  const page = await staged.browser.open(url.replace(/^ws/, "http"));
  await page.run(join, name, role);
  await page.until(isIn, `${name} is connected`, "connected");
  return page;
}

test("pages forbid what they do not need", async () => {
  const answer = await fetch(staged.server.url.replace(/^ws/, "http"));
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
    assert.deepEqual([...hosts], [`127.0.0.1:${staged.server.messagingPort}`]);
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
  // The page's own question about the room goes on.
  const attempts = () => rude.requests.filter((url) => !url.includes("/demo/room")).length;
  const asked = attempts();
  await host.run(press, "again", ".kick");
  await rude.until(isIn, "the kick ends the connection", "closed");
  assert.match(await rude.run(() => document.querySelector(".state").textContent), /kicked by host/);
  // A clean close is final: after another round trip of the room there is still no new attempt.
  await host.run(say, "calm");
  await host.until(shows, "the room goes on", "calm");
  assert.equal(await rude.run(isIn, "closed"), true);
  assert.equal(attempts(), asked, "no token and no connection was asked for");
  assert.deepEqual([host.faults, rude.faults], [[], []]);
});

test("a lost connection comes back with a fresh token", async () => {
  const proxy = await flakyProxy(staged.server.messagingPort);
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

// -- what is refused --

const problem = () => document.querySelector(".problem:not([hidden])")?.textContent;
const field = () => document.querySelector(".say").content.value;

test("what is too long goes back into the field, and is counted", async () => {
  const page = await viewer("wordy");
  const counter = () => document.querySelector(".counter:not([hidden])")?.textContent;
  await page.run(say, "x".repeat(501));
  assert.equal(
    await page.until(problem, "the refusal"),
    "Too long: 501 of 500 characters. The server says: Message exceeds maximum length (400).",
  );
  assert.equal(await page.run(field), "x".repeat(501));
  assert.equal(await page.run(counter), "501 of 500");
  // Characters, not the units of JavaScript: each of these has two.
  await page.run(say, "𝄞".repeat(500));
  await page.until(shows, "it is within the limit", "𝄞".repeat(500));
  assert.equal(await page.run(problem), undefined, "the old refusal is gone");
  assert.equal(await page.run(counter), undefined);
  await page.run(join, "x".repeat(129), "viewer");
  await page.until(isIn, "the refusal of the name", "closed");
  const state = await page.run(() => document.querySelector(".state").textContent);
  assert.match(state, /user must have 1 to 128 characters/);
});

test("who is too fast hears how much the room takes, and loses nothing", async () => {
  const limited = await Server.start({ quotas: "aws" });
  try {
    const page = await viewer("hasty", "viewer", limited.url);
    await page.run((say) => {
      for (let i = 0; i < 40; i++) (0, eval)(`(${say})`)(`word-${i}.`);
    }, say.toString());
    const text = await page.until(problem, "the refusal");
    assert.match(text, /^Too fast: this room takes 10 messages a second, all viewers together\. The server says: .* \(429\)\.$/);
    const kept = () => {
      const all = document.querySelector(".messages").innerText + document.querySelector(".say").content.value;
      return Array.from({ length: 40 }, (_, i) => `word-${i}.`).filter((word) => !all.includes(word)).length === 0;
    };
    await page.until(kept, "each is said, or back in the field");
  } finally {
    await limited.stop();
  }
});

// -- the server is away --

test("a server that is gone is said in plain words, counted down, and found again", async () => {
  const own = await Server.start({ quotas: "open" });
  const page = await viewer("patient", "viewer", own.url);
  await page.run(() => (document.querySelector(".say").content.value = "half-writ"));
  await page.run(say, "first");
  await page.until(() => document.querySelector(".latency").textContent, "latency");
  await page.run(() => (document.querySelector(".say").content.value = "half-writ"));
  await own.stop();
  const said = () => document.querySelector(".status").innerText;
  await page.until(() => /^●?\s*Server not reachable\. Trying again in \d+ s\. Try now/.test(document.querySelector(".status").innerText), "own words");
  assert.doesNotMatch(await page.run(said), /fetch|back in/i, "nothing of the browser's, no old latency");
  assert.deepEqual(await page.accessibility(), []);
  await page.until(() => document.getElementById("room-viewers").textContent === "server not reachable", "the header, too");
  const { messagingPort, controlPort, dataDir } = own;
  const again = await Server.start({ quotas: "open", messagingPort, controlPort, dataDir });
  try {
    await page.run(() => document.querySelector(".now").click());
    await page.until(isIn, "it is back", "connected");
    assert.equal(await page.run(field), "half-writ");
    assert.equal(await page.run(() => document.querySelector(".now").hidden), true);
  } finally {
    await again.stop();
  }
});

// -- the first minute --

test("the first screen says where one is, and what to press", async () => {
  const own = await Server.start({ quotas: "open" });
  try {
    const page = await staged.browser.open(own.url.replace(/^ws/, "http"));
    await page.until(() => document.getElementById("room").innerText === "lobby 0 viewers", "room and count");
    assert.match(await page.run(() => document.querySelector(".empty").innerText), /Join.*under any name/s);
    await page.run(join, "newcomer", "viewer");
    await page.until(isIn, "connected", "connected");
    const press = (text) => [...document.querySelectorAll(".empty button")].find((button) => button.innerText.includes(text)).click();
    await page.run(press, "Say hello");
    await page.until(shows, "it is said", "Hello, everybody");
    await page.until(() => document.getElementById("room").innerText.includes("1 viewer"), "the count follows");
    assert.equal(await page.run(() => document.querySelector(".empty").hidden), true);
    assert.deepEqual(page.faults, []);
  } finally {
    await own.stop();
  }
});

// -- moderation, calmly --

const line = (text) => [...document.querySelectorAll(".messages li")].find((item) => item.textContent.includes(text));

test("tools come with the focus, have names, and leave it on the next line", async () => {
  const host = await viewer("calm-host", "moderator");
  const guest = await viewer("calm-guest");
  for (const text of ["one.", "two.", "three."]) {
    await guest.run(say, text);
    await host.until(shows, text, text);
  }
  const tools = (text) => {
    const item = [...document.querySelectorAll(".messages li")].find((item) => item.textContent.includes(text));
    return getComputedStyle(item.querySelector(".tools")).visibility;
  };
  assert.equal(await host.run(tools, "two."), "hidden");
  // By the keyboard alone: to the log, up to the last line and the one before, to its first tool.
  await host.run(() => document.querySelector(".messages").focus());
  await host.key("ArrowUp");
  await host.key("ArrowUp");
  assert.match(await host.run(() => document.activeElement.textContent), /two\./);
  assert.equal(await host.run(tools, "two."), "visible");
  await host.key("Tab");
  assert.equal(await host.run(() => document.activeElement.getAttribute("aria-label")), "Delete message of calm-guest");
  await host.key("Enter", "\r");
  await guest.until(shows, "the deletion", "removed by calm-host");
  assert.match(await host.run(() => document.activeElement.closest("li").textContent), /three\./);
  const small = () =>
    [...document.querySelectorAll(".tools button")].filter((button) => {
      if (!button.checkVisibility()) return false;
      const { width, height } = button.getBoundingClientRect();
      return width < 24 || height < 24;
    }).length;
  assert.equal(await host.run(small), 0, "WCAG 2.2: targets of 24 px");

  // A long press, where nothing hovers.
  await host.run(() => {
    const item = [...document.querySelectorAll(".messages li")].find((item) => item.textContent.includes("one."));
    item.dispatchEvent(new PointerEvent("pointerdown", { pointerType: "touch", bubbles: true }));
  });
  await host.until(() => document.querySelector(".messages li.held .tools"), "it is held");
  assert.equal(await host.run(tools, "one."), "visible");
});

test("one's own session is not ended by a slip", async () => {
  const host = await viewer("slippery", "moderator");
  await host.run(say, "mine.");
  await host.until(shows, "it is there", "mine.");
  await host.run(press, "mine.", ".kick");
  const question = () => document.querySelector("dialog[open]")?.innerText;
  assert.match(await host.until(question, "it asks"), /slippery is you\. Kick yourself\?/);
  assert.deepEqual(await host.accessibility(), []);
  await host.run(() => document.querySelector("dialog button").click());
  assert.equal(await host.run(question), undefined);
  await host.run(say, "still here.");
  await host.until(shows, "it stayed", "still here.");
  await host.run(press, "mine.", ".kick");
  await host.until(question, "it asks again");
  await host.run(() => document.querySelector("dialog .danger").click());
  await host.until(isIn, "it is over", "closed");
  assert.match(await host.run(() => document.querySelector(".state").textContent), /kicked by slippery/);
});

// -- the storm --

const figure = (name) => document.getElementById(`storm-${name}`).textContent;

/** Sets a slider as a hand does. */
const slide = (id, value) => {
  const slider = document.getElementById(id);
  slider.value = value;
  for (const kind of ["input", "change"]) slider.dispatchEvent(new Event(kind));
};
const viewersAre = (count) => document.getElementById("room-viewers").textContent === count;
/** Viewers of the lobby, by the page's endpoint, which looks when it is asked. */
async function present() {
  const url = `${staged.server.url.replace(/^ws/, "http")}/demo/room`;
  await fetch(url);
  // Longer than the pause between two looks.
  await new Promise((resolve) => setTimeout(resolve, 250));
  await fetch(url);
  await new Promise((resolve) => setTimeout(resolve, 50));
  return (await (await fetch(url)).json()).viewers;
}

test("a storm comes, is measured, follows its sliders, and goes with its page", async () => {
  const page = await viewer("watcher");
  const before = await until(present, "somebody is there");
  await page.run(() => document.getElementById("toggle-storm").click());
  await page.run(slide, "storm-viewers", 2);
  await page.run(slide, "storm-rate", 20);
  await page.run(() => document.getElementById("storm-go").click());
  await page.until(() => /^50 of 50$/.test(document.getElementById("storm-viewers-now").textContent), "fifty come");
  await page.until((count) => document.getElementById("room-viewers").textContent === count, "the room counts them", String(before + 50));
  await page.until(shows, "they talk", "fan-7");
  await page.until(() => parseFloat(document.getElementById("storm-deliveries").textContent.replace(",", "")) > 500, "20 a second to 50");
  assert.match(await page.run(figure, "p50"), /^[\d,]+\.\d ms$/);
  assert.equal(await page.run(figure, "refused"), "0");
  await page.run(slide, "storm-viewers", 1);
  await page.until((count) => document.getElementById("room-viewers").textContent === count, "fewer", String(before + 20));
  await page.run(() => document.getElementById("storm-go").click());
  await page.until(viewersAre, "they go", String(before));
  assert.equal(await page.run(figure, "note"), "Stopped.");
  await page.run(() => document.getElementById("storm-go").click());
  await until(async () => (await present()) > before, "they are back");
  assert.deepEqual(page.faults, []);
  await page.ask("Page.navigate", { url: "about:blank" });
  await until(async () => (await present()) === before - 1, "they go with the page");
});

test("nobody else can start a storm, nor a larger one", async () => {
  const url = staged.server.url.replace(/^ws/, "http");
  const ask = async (query) => {
    const answer = await fetch(`${url}/demo/storm?${query}`);
    return [answer.status, await answer.text()];
  };
  const { key } = await (await fetch(`${url}/demo/token?user=u`)).json();
  assert.deepEqual(await ask("viewers=10&rate=1"), [403, "key must be that of /demo/token\n"]);
  assert.equal((await ask(`viewers=10&rate=1&key=${key.slice(1)}`))[0], 403);
  for (const query of ["viewers=2001&rate=1", "viewers=10&rate=101", "viewers=-1&rate=1", "rate=1"]) {
    const [status, text] = await ask(`${query}&key=${key}`);
    assert.equal(status, 400, query);
    assert.match(text, /viewers must be 1 to 2000 and rate 1 to 100/);
  }
  // Nobody asks for it: it ends.
  const before = await present();
  assert.equal((await ask(`viewers=10&rate=1&key=${key}`))[0], 200);
  await until(async () => (await present()) > before, "it begins");
  await until(async () => (await present()) === before, "it ends unwatched");
  const { ended } = await (await fetch(`${url}/demo/room`)).json();
  assert.equal(ended.why, "Nobody watched any more.");
});

test("a storm does not outlive its server, however that ends", async () => {
  const own = await Server.start({ quotas: "open" });
  const url = own.url.replace(/^ws/, "http");
  const { key } = await (await fetch(`${url}/demo/token?user=u`)).json();
  await fetch(`${url}/demo/storm?viewers=10&rate=1&key=${key}`);
  const children = () => readFileSync(`/proc/${own.process.pid}/task/${own.process.pid}/children`, "utf8").trim();
  const child = await until(children, "the load generator runs");
  const line = () => readFileSync(`/proc/${child}/cmdline`, "utf8");
  assert.match(await until(() => line().includes("live") && line(), "it is the program"), /bench\0live\0/);
  own.process.kill("SIGKILL");
  await own.exited;
  await until(() => !existsSync(`/proc/${child}`) || !readFileSync(`/proc/${child}/cmdline`, "utf8"), "it ends, too");
});

// -- everybody can use it --

test("axe finds nothing, in both schemes and all views", async () => {
  const fresh = await staged.browser.open(staged.server.url.replace(/^ws/, "http"));
  await fresh.resize(360, 740);
  assert.deepEqual([await fresh.accessibility(), await fresh.run(tooWide)], [[], []], "the first screen");
  const page = await viewer("axe", "moderator");
  for (const text of ["one", "two", "three"]) await page.run(say, text);
  await page.until(shows, "messages", "three");
  await page.run(say, "x".repeat(501));
  await page.until(problem, "a refusal");
  await page.run(() => document.getElementById("second").click());
  await page.until(() => document.querySelectorAll(".state[data-state=connected]").length === 2, "a second viewer");
  await page.run(() => document.getElementById("toggle-storm").click());
  await page.run(() => document.querySelector(".messages li").focus());
  for (const [width, height, dark] of [[1280, 800, false], [390, 844, true]]) {
    await page.resize(width, height, dark);
    for (const tab of ["chat", "code"]) {
      await page.run((tab) => document.getElementById(`tab-${tab}`).click(), tab);
      if (tab === "code") await page.until(() => document.querySelectorAll("#code pre").length > 0, "the snippets");
      const where = `${tab}, ${width} px, ${dark ? "dark" : "light"}`;
      assert.deepEqual(await page.accessibility(), [], where);
      assert.deepEqual(await page.run(tooWide), [], where);
    }
  }
});

test("arrow keys move between tabs, one of which is in the tab order", async () => {
  const page = await viewer("keys");
  await page.run(() => document.getElementById("tab-chat").focus());
  const selected = () => {
    const tabs = [...document.querySelectorAll("[role=tab]")];
    const inOrder = tabs.filter((tab) => tab.tabIndex === 0);
    const [chosen] = tabs.filter((tab) => tab.getAttribute("aria-selected") === "true");
    return [chosen.id, inOrder.length, inOrder[0] === chosen, document.activeElement === chosen].join(" ");
  };
  for (const [key, tab] of [["ArrowRight", "code"], ["ArrowRight", "chat"], ["ArrowLeft", "code"], ["Home", "chat"], ["End", "code"]]) {
    await page.key(key);
    assert.equal(await page.run(selected), `tab-${tab} 1 true true`, key);
  }
});

test("a busy room is not read out, and is followed until one scrolls up", async () => {
  const page = await viewer("reader");
  await page.run((say) => {
    for (let i = 0; i < 60; i++) (0, eval)(`(${say})`)(`line-${i}.`);
  }, say.toString());
  await page.until(shows, "all of it", "line-59.");
  const live = () => document.querySelector(".messages").getAttribute("aria-live");
  assert.equal(await page.run(live), "off");
  const atEnd = () => {
    const { scrollHeight, scrollTop, clientHeight } = document.querySelector(".messages");
    return scrollHeight - scrollTop - clientHeight < 2;
  };
  assert.equal(await page.run(atEnd), true);
  await page.run(() => (document.querySelector(".messages").scrollTop = 0));
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await page.run(say, "news.");
  const newer = () => document.querySelector(".newer:not([hidden])")?.textContent;
  assert.equal(await page.until(newer, "the button"), "1 new ↓");
  assert.equal(await page.run(live), "polite");
  await page.run(() => document.querySelector(".newer").click());
  assert.equal(await page.run(atEnd), true);
  assert.equal(await page.run(newer), undefined);
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
  assert.ok(code.includes(staged.server.controlUrl) && code.includes(staged.server.url) && code.includes(":room/"), code);
  // Of this program and this server's keys, not of whatever is on the path.
  assert.match(code, /\n\/\S+\/uproar token create --data-dir \S+ \\\n +--room arn:/);
  assert.deepEqual(page.faults, []);
});
