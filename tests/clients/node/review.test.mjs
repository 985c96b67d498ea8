// Message review as the official chat client sees it: what its promises and listeners are told, with a
// handler called by URL and through Lambda's Invoke API.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { UpdateRoomCommand } from "@aws-sdk/client-ivschat";

import { directory, freePort, refusal, Server, until, within } from "./harness.mjs";

const FUNCTION = "arn:aws:lambda:us-west-2:123456789012:function:";

/** A handler that does what a message's first word says; a held answer waits for `release()`. */
async function reviewHandler() {
  const handler = { asked: [], held: [] };
  handler.release = () => handler.held.splice(0).forEach((answer) => answer());
  const listener = http.createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const question = JSON.parse(body);
    handler.asked.push({ url: request.url, ...question });
    const [word, ...words] = question.Content.split(" ");
    const rest = words.join(" ");
    const answer = (value) => response.end(typeof value === "string" ? value : JSON.stringify(value));
    const allow = { ReviewResult: "ALLOW", Content: question.Content, Attributes: question.Attributes };
    if (word === "deny") answer({ ReviewResult: "DENY", Attributes: { Reason: rest } });
    else if (word === "rewrite") answer({ ...allow, Content: rest, Attributes: { by: "handler" } });
    else if (word === "garbage") answer("<html>");
    else if (word === "hold") handler.held.push(() => answer(allow));
    else if (word === "later") setTimeout(() => answer(allow), Math.random() * 30);
    else answer(allow);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  handler.url = `http://127.0.0.1:${listener.address().port}`;
  handler.close = () => {
    listener.close();
    listener.closeAllConnections();
  };
  return handler;
}

async function start(handler, keys = "timeout_ms = 10000") {
  const file = path.join(directory(), "uproar.toml");
  const dead = `http://127.0.0.1:${await freePort()}/`;
  const functions = [`mapped=${handler.url}/check`, `other=${handler.url}/other`, `dead=${dead}`];
  const list = JSON.stringify(functions.map((text) => FUNCTION + text));
  writeFileSync(
    file,
    `[review]\n${keys}\nfunctions = ${list}\nlambda_endpoint = "${handler.url}"\n` +
      `lambda_access_key_id = "AKIDLAMBDA0000000000"\nlambda_secret_access_key = "lambda-secret-0123456789"\n`,
  );
  return Server.start({ extra: ["--config", file] });
}

const reviewed = (name, fallbackResult = "ALLOW") => ({
  maximumMessageRatePerSecond: 100,
  messageReviewHandler: { uri: FUNCTION + name, fallbackResult },
});

describe("message review", () => {
  let handler, server;
  before(async () => {
    handler = await reviewHandler();
    server = await start(handler);
  });
  after(async () => {
    await server.stop();
    handler.close();
  });

  for (const way of ["mapped", "invoked"]) {
    test(`${way}: allowed, rewritten, denied`, async () => {
      const arn = await server.room(reviewed(way));
      const [alice, bob] = [await server.join(arn, "alice"), await server.join(arn, "bob")];
      const hello = await within(alice.send("héllo 🔥", { k: "v" }));
      assert.deepEqual(hello.attributes, { k: "v" });
      const nicer = await within(alice.send("rewrite nicer", { k: "v" }));
      assert.deepEqual([nicer.content, nicer.attributes], ["nicer", { by: "handler" }]);
      const denied = await refusal(alice.send("deny mind your tongue"));
      assert.equal(denied.errorCode, 406);
      assert.match(denied.errorMessage, /mind your tongue/);
      const last = await within(bob.send("last"));
      await until(() => bob.messages.length === 3 && alice.messages.length === 3, "three arrive");
      assert.deepEqual(bob.messages, [hello, nicer, last]);
      assert.deepEqual(alice.messages, [hello, nicer, last]);
      assert.deepEqual(bob.logs, []);
      const asked = handler.asked.filter((question) => question.RoomArn === arn);
      assert.equal(asked.length, 4);
      assert.equal(asked[0].MessageId, hello.id);
      assert.equal(asked[0].Sender.Ip, "127.0.0.1");
      assert.equal(denied.id, asked[2].MessageId);
      const invoked = `/2015-03-31/functions/${encodeURIComponent(FUNCTION + way)}/invocations`;
      assert.equal(asked[0].url, way === "mapped" ? "/check" : invoked);
      alice.leave();
      bob.leave();
    });
  }

  test("no usable answer: the fallback decides", async () => {
    for (const [way, content] of [
      ["mapped", "garbage"],
      ["invoked", "garbage"],
      ["dead", "x"],
    ]) {
      const arn = await server.room(reviewed(way, "ALLOW"));
      const alice = await server.join(arn, "alice");
      assert.equal((await within(alice.send(content))).content, content);
      const messageReviewHandler = { fallbackResult: "DENY" };
      await server.api.send(new UpdateRoomCommand({ identifier: arn, messageReviewHandler }));
      assert.equal((await refusal(alice.send(content))).errorCode, 406);
      alice.leave();
    }
  });

  test("answers in any order: everybody sees the order of arrival", async () => {
    const arn = await server.room(reviewed("mapped"));
    const senders = await Promise.all([0, 1, 2].map((n) => server.join(arn, `sender${n}`)));
    const viewers = await Promise.all([0, 1, 2].map((n) => server.join(arn, `viewer${n}`)));
    const sent = senders.flatMap((one, s) =>
      Array.from({ length: 30 }, (_, i) => one.send(`${i % 3 ? "later" : "now"} ${s} ${i}`)),
    );
    await within(Promise.all(sent));
    for (const one of [...viewers, ...senders]) {
      await until(() => one.messages.length === 90, "all 90 arrive");
      assert.deepEqual(one.messages, viewers[0].messages);
    }
    const texts = viewers[0].messages.map((message) => message.content.split(" "));
    for (let s = 0; s < 3; s++) {
      const own = texts.filter((words) => words[1] === String(s)).map((words) => Number(words[2]));
      assert.deepEqual(own, [...own.keys()], "a sender's messages stay in its order");
    }
    for (const one of [...senders, ...viewers]) one.leave();
  });

  test("a handler that hangs delays its own room only", async () => {
    const hung = await server.room(reviewed("other"));
    const [carol, dave] = [await server.join(hung, "carol"), await server.join(hung, "dave")];
    const waiting = Array.from({ length: 70 }, (_, i) => carol.send(`hold ${i}`));
    // As many as one handler may be sent at once.
    await until(() => handler.held.length === 64, "the handler has its fill");
    for (const settings of [reviewed("mapped"), reviewed("invoked"), undefined]) {
      const arn = await server.room(settings);
      const alice = await server.join(arn, "alice");
      for (let i = 0; i < 10; i++) await within(alice.send(`fine ${i}`));
      alice.leave();
    }
    assert.equal(dave.messages.length, 0);
    handler.release();
    await until(() => handler.held.length === 6, "the rest is asked");
    handler.release();
    await within(Promise.all(waiting));
    await until(() => dave.messages.length === 70, "all of them, in order");
    assert.deepEqual(
      dave.messages.map((message) => message.content),
      Array.from({ length: 70 }, (_, i) => `hold ${i}`),
    );
    carol.leave();
    dave.leave();
  });
});

test("a handler that never answers: the time-out lets the fallback decide", async () => {
  const handler = await reviewHandler();
  const server = await start(handler, "timeout_ms = 100");
  for (const way of ["mapped", "invoked"]) {
    const allowing = await server.join(await server.room(reviewed(way)), "alice");
    assert.equal((await within(allowing.send("hold"))).content, "hold");
    const denying = await server.join(await server.room(reviewed(way, "DENY")), "alice");
    assert.equal((await refusal(denying.send("hold"))).errorCode, 406);
    allowing.leave();
    denying.leave();
  }
  await server.stop();
  handler.close();
});
