// permessage-deflate switched on: the official SDK on `ws`, `ws` itself over TLS too, and a browser's own
// WebSocket read the same as a client without it. The whole of the SDK's tests runs with compression when
// UPROAR_MESSAGING__COMPRESSION=true is in their environment.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";

import { WebSocket } from "ws";

import { Browser } from "./browser.mjs";
import { Server, until } from "./harness.mjs";

const AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const WORDS = "what a goal by the striker from brazil ";

let server, arn;
before(async () => {
  server = await Server.start({ extra: ["--compression"] });
  arn = await server.room();
});
after(() => server?.stop());

async function metric(from, name) {
  const { text } = await from.page("/metrics");
  return Number(text.match(new RegExp(`^uproar_${name} (\\d+)$`, "m"))[1]);
}

/** A plain `ws` client that keeps every frame. */
async function listen(from, room, user, options) {
  const { token } = await from.token(room, user);
  const socket = new WebSocket(from.url, token, { ...from.trust(), ...options });
  const answers = [];
  socket.on("upgrade", (answer) => answers.push(answer.headers["sec-websocket-extensions"]));
  const frames = [];
  socket.on("message", (data) => frames.push(data.toString()));
  await once(socket, "open");
  return { socket, frames, agreed: answers[0] };
}

test("the SDK chats compressed, and others read the same frames", async () => {
  const plain = await listen(server, arn, "plain", { perMessageDeflate: false });
  const packed = await listen(server, arn, "packed", { perMessageDeflate: { threshold: 0 } });
  assert.deepEqual([plain.agreed, packed.agreed], [undefined, AGREED]);
  const saved = await metric(server, "bytes_saved_total");
  const [ann, bob] = [await server.join(arn, "ann"), await server.join(arn, "bob")];
  for (let number = 0; number < 50; number += 1) {
    const sent = await ann.send(`${number} é🔥 ${WORDS.repeat(number % 9)}`, { number: `${number}` });
    assert.equal(sent.attributes.number, `${number}`);
  }
  packed.socket.send(JSON.stringify({ Action: "SEND_MESSAGE", Content: WORDS.repeat(10) }));
  for (const member of [ann, bob]) await until(() => member.messages.length === 51, "all is heard");
  assert.deepEqual(
    bob.messages.map(({ content }) => content),
    ann.messages.map(({ content }) => content),
  );
  await until(() => plain.frames.length === 51 && packed.frames.length === 51, "all is heard");
  assert.deepEqual(packed.frames, plain.frames);
  assert.ok((await metric(server, "bytes_saved_total")) - saved > 51 * 3 * 50);
  for (const member of [ann, bob]) member.leave();
  for (const { socket } of [plain, packed]) socket.terminate();
});

test("the same over TLS", async () => {
  const own = await Server.start({ extra: ["--compression", "--tls"] });
  const room = await own.room();
  const plain = await listen(own, room, "plain", { perMessageDeflate: false });
  const packed = await listen(own, room, "packed", { perMessageDeflate: { threshold: 0 } });
  assert.deepEqual([plain.agreed, packed.agreed], [undefined, AGREED]);
  for (let number = 0; number < 50; number += 1) {
    const from = number % 2 ? plain : packed;
    from.socket.send(JSON.stringify({ Action: "SEND_MESSAGE", Content: `${number} ${WORDS.repeat(9)}` }));
  }
  await until(() => plain.frames.length === 50 && packed.frames.length === 50, "all is heard");
  assert.deepEqual(packed.frames, plain.frames);
  assert.ok((await metric(own, "bytes_saved_total")) > 50 * 50);
  for (const { socket } of [plain, packed]) socket.terminate();
  await own.stop();
});

test("a browser's own WebSocket", async () => {
  const browser = await Browser.launch();
  try {
    // The demo page: a page from elsewhere may not reach loopback.
    const tab = await browser.open(server.url.replace("ws:", "http:"));
    const plain = await listen(server, arn, "plain", { perMessageDeflate: false });
    const { token } = await server.token(arn, "browser");
    const open = (url, token) => {
      window.frames = [];
      window.socket = new WebSocket(url, token);
      socket.onmessage = ({ data }) => window.frames.push(data);
      return new Promise((done, fail) => {
        socket.onopen = () => done(socket.extensions);
        socket.onerror = () => fail(new Error("not connected"));
      });
    };
    assert.equal(await tab.run(open, server.url, token), AGREED);
    const say = (content) => socket.send(JSON.stringify({ Action: "SEND_MESSAGE", Content: content }));
    for (let number = 0; number < 50; number += 1) {
      await tab.run(say, `${number} é🔥 ${WORDS.repeat(number % 9)}`);
    }
    await until(() => plain.frames.length === 50, "all is heard");
    await tab.until(() => window.frames.length === 50, "all is heard");
    assert.deepEqual(await tab.run(() => window.frames), plain.frames);
    assert.deepEqual(tab.faults, []);
    plain.socket.terminate();
  } finally {
    await browser.close();
  }
});
