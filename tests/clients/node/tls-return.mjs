// Run by tls.test.mjs: the official client comes back over `wss://`. Arguments: URL, tokens as JSON; between two connections it waits
// for a line of input. Prints for each whether its TLS session was resumed.

import { once } from "node:events";
import https from "node:https";

import { ChatRoom } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

// Sessions are kept by the agent; without one `ws` keeps none. Browsers keep them.
const agent = new https.Agent();
const reused = [];

globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { agent });
    this.on("upgrade", (response) => reused.push(response.socket.isSessionReused()));
  }
};

const [url, tokens] = [process.argv[2], JSON.parse(process.argv[3])];
for (const token of tokens) {
  const room = new ChatRoom({ regionOrUrl: url, tokenProvider: async () => token, maxReconnectAttempts: 0 });
  room.logger = { debug() {}, info() {}, error() {} };
  const connected = new Promise((done) => room.addListener("connect", done));
  const ended = new Promise((done) => room.addListener("disconnect", done));
  room.connect();
  await connected;
  console.log(reused.at(-1) ? "resumed" : "full");
  room.disconnect();
  await ended;
  if (token !== tokens.at(-1)) await once(process.stdin, "data");
}
process.stdin.destroy();
