// Rules as the official chat client meets them: refusals, masks, held messages, reviews after delivery.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { after, before, describe, test } from "node:test";

import { Server, directory, refusal, until, within } from "./harness.mjs";

const SEND = { capabilities: ["SEND_MESSAGE"] };
const FUNCTION = "arn:aws:lambda:us-west-2:123456789012:function:model";
const texts = (client) => client.messages.map((message) => message.content);
const rule = (id, action, patterns, rest = {}) => ({ id, kind: "words", patterns, action, ...rest });

describe("rules", () => {
  let server, model;
  before(async () => {
    model = http.createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const { Content, Attributes } = JSON.parse(body);
      const denial = { ReviewResult: "DENY", Attributes: { Reason: "the model says no" } };
      response.end(JSON.stringify(Content.includes("sly") ? denial : { ReviewResult: "ALLOW", Content, Attributes }));
    });
    model.listen(0, "127.0.0.1");
    await once(model, "listening");
    const file = path.join(directory(), "uproar.toml");
    writeFileSync(file, `[review]\nfunctions = ["${FUNCTION}=http://127.0.0.1:${model.address().port}/"]\n`);
    server = await Server.start({ extra: ["--config", file] });
    await server.call("PutRuleSet", {
      name: "house",
      rules: [
        rule("slurs", "reject", ["bad"], { allow: ["badge"], reason: "mind your words" }),
        rule("mild", "mask", ["meh"]),
        rule("unsure", "hold", ["hmm"]),
      ],
    });
  });
  after(async () => {
    await server.stop();
    model.close();
    model.closeAllConnections();
  });

  test("disguised words reject the promise, and others pass", async () => {
    const arn = await server.room({ tags: { "uproar:rules": "house" } });
    const [bob, eve] = [await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND)];
    for (const text of ["bad", "b a d", "bàd", "b4d"]) {
      const { errorCode, errorMessage } = await refusal(bob.send(text));
      assert.deepEqual([errorCode, errorMessage], [406, "mind your words"], text);
    }
    await within(bob.send("badge"));
    assert.equal((await within(bob.send("a meh day"))).content, "a *** day");
    await until(() => eve.messages.length === 2, "eve hears the rest");
    assert.deepEqual(texts(eve), ["badge", "a *** day"]);
  });

  test("a moderator allows what is held, and all see it", async () => {
    const arn = await server.room({ tags: { "uproar:rules": "house", "uproar:commands": "slash" } });
    const [bob, eve, mod] = [await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND), await server.join(arn, "mod")];
    const echo = await within(bob.send("hmm, is it?"));
    assert.equal(echo.attributes["uproar:held"], "1");
    const heldOf = (client) => client.events.filter(({ eventName }) => eventName === "uproar:held");
    await until(() => heldOf(mod).length === 1, "the moderator is told");
    const { attributes } = heldOf(mod)[0];
    assert.deepEqual([attributes.MessageId, attributes.UserId, attributes.Content, attributes.Rule], [echo.id, "bob", "hmm, is it?", "house/unsure"]);
    assert.deepEqual([heldOf(eve), texts(eve)], [[], []]);
    const answer = await within(mod.send("allow", { "uproar:do": "allow", "uproar:id": echo.id }));
    assert.equal(answer.attributes["uproar:result"], "ok");
    await until(() => eve.messages.length === 1, "eve hears it");
    assert.deepEqual([eve.messages[0].id, eve.messages[0].content], [echo.id, "hmm, is it?"]);
    await within(eve.send("mark"));
    await until(() => texts(bob).includes("mark"), "bob hears on");
    assert.equal(bob.messages.filter(({ id }) => id === echo.id).length, 1, "the client drops what it has by its id");
    const second = await within(bob.send("hmm again"));
    assert.equal((await within(mod.send(`/deny ${second.id}`))).content, `${second.id} is denied`);
    assert.equal((await refusal(mod.send(`/allow ${second.id}`))).errorCode, 404);
    assert.deepEqual(texts(eve), ["hmm, is it?", "mark"]);
  });

  test("what a model denies afterwards is deleted at all", async () => {
    const arn = await server.room({ tags: { "uproar:after-review": FUNCTION } });
    const clients = [await server.join(arn, "bob", SEND), await server.join(arn, "eve", SEND)];
    const said = await within(clients[0].send("something sly"));
    await within(clients[0].send("something kind"));
    for (const client of clients) {
      await until(() => client.deletions.length === 1, "the message is deleted");
      assert.deepEqual([client.deletions[0].messageId, client.deletions[0].reason], [said.id, "the model says no"]);
      assert.deepEqual(texts(client), ["something sly", "something kind"]);
    }
  });
});
