// A viewer in a terminal, with the official SDK: prints what is said in the room, says what is typed.
//
//   npm install amazon-ivs-chat-messaging       Node 22 or later; 20 with --experimental-websocket
//   node examples/viewer.mjs alice              beside examples/backend.py
//
// In a browser the same lines work, without `readline`.

import readline from "node:readline";
import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";

const user = process.argv[2] ?? "alice";
const messaging = process.env.MESSAGING ?? "ws://127.0.0.1:8080";
const backend = process.env.BACKEND ?? "http://127.0.0.1:8090";

const room = new ChatRoom({
  regionOrUrl: messaging, // for Amazon IVS Chat: the region
  tokenProvider: async () => {
    const answer = await fetch(`${backend}/token?user=${encodeURIComponent(user)}`);
    const { token, sessionExpirationTime, tokenExpirationTime } = await answer.json();
    return {
      token,
      sessionExpirationTime: new Date(sessionExpirationTime),
      tokenExpirationTime: new Date(tokenExpirationTime),
    };
  },
});
room.logLevel = "error";

room.addListener("connect", () => console.log(`connected as ${user}`));
room.addListener("disconnect", (reason) => {
  console.log(`disconnected: ${reason}`);
  process.exit(reason === "clientDisconnect" ? 0 : 1);
});
room.addListener("message", ({ sender, content }) =>
  console.log(`${sender.attributes?.name ?? sender.userId}: ${content}`),
);
room.addListener("event", ({ eventName, attributes }) => console.log(`* ${eventName} ${attributes?.user ?? ""}`));

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) =>
    room
      .sendMessage(new SendMessageRequest(line))
      .catch((error) => console.log(`refused: ${error.errorCode} ${error.errorMessage}`)),
  )
  .on("close", () => room.disconnect());
room.connect();
