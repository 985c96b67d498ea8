// Run by tls.test.mjs: two official clients chat over `wss://`. Arguments: URL, two tokens as JSON, and how often; between
// two times it waits for a line of input.

import { once } from "node:events";

import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
const [url, tokens] = [process.argv[2], JSON.parse(process.argv[3])];
const late = setTimeout(() => fail("no end within 60 s"), 60_000);

function fail(why) {
  console.error(why);
  process.exit(1);
}

function join(token) {
  const room = new ChatRoom({
    regionOrUrl: url,
    tokenProvider: async () => token,
    maxReconnectAttempts: 0,
  });
  room.logger = { debug() {}, info() {}, error() {} };
  return new Promise((open) => {
    room.addListener("connect", () => open(room));
    room.addListener("disconnect", (reason) => reason === "clientDisconnect" || fail(reason));
    room.connect();
  });
}

const [alice, bob] = await Promise.all(tokens.map(join));
const heard = [];
bob.addListener("message", (message) => heard.push(message.content));
const sent = Array.from({ length: 60 }, (_, index) => `${index} ${"x".repeat(400)}`);
for (let left = Number(process.argv[4] ?? 1); left > 0; left -= 1) {
  heard.length = 0;
  await Promise.all(sent.map((content) => alice.sendMessage(new SendMessageRequest(content))));
  while (heard.length < sent.length) await new Promise((next) => setTimeout(next, 5));
  if (JSON.stringify(heard) !== JSON.stringify(sent)) fail("order or content differs");
  console.log(`${heard.length} heard in order`);
  if (left > 1) await once(process.stdin, "data");
}
process.stdin.destroy();
alice.disconnect();
bob.disconnect();
clearTimeout(late);
