// Run by ../python/own_names.py, where Amazon's names lead to a server of ours: the official clients as an
// application of Amazon's service has them, configured by their region alone.

import { CreateChatTokenCommand, CreateRoomCommand, IvschatClient } from "@aws-sdk/client-ivschat";
import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
const region = process.env.AWS_REGION;
const api = new IvschatClient({ region });
const { arn } = await api.send(new CreateRoomCommand({}));
const tokenProvider = async () => {
  const { token } = await api.send(
    new CreateChatTokenCommand({ roomIdentifier: arn, userId: "alice", capabilities: ["SEND_MESSAGE"] }),
  );
  return { token };
};
const room = new ChatRoom({ regionOrUrl: region, tokenProvider });
room.logger = { debug() {}, info() {}, error() {} };
room.addListener("disconnect", (reason) => {
  if (reason !== "clientDisconnect") throw new Error(reason);
});
const connected = new Promise((done) => room.addListener("connect", done));
const heard = new Promise((done) => room.addListener("message", (message) => done(message.content)));
room.connect();
await connected;
await room.sendMessage(new SendMessageRequest("hello"));
console.log(`heard ${await heard} by edge.ivschat.${region}.amazonaws.com`);
room.disconnect();
