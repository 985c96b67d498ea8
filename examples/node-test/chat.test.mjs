// What an application's tests look like, with a server of their own each and the official SDKs.
//
//   npm install @aws-sdk/client-ivschat amazon-ivs-chat-messaging       Node 22 or later; 20 with --experimental-websocket
//   node --test examples/node-test/chat.test.mjs

import assert from "node:assert/strict";
import { test } from "node:test";
import { CreateChatTokenCommand, SendEventCommand } from "@aws-sdk/client-ivschat";
import { SendMessageRequest } from "amazon-ivs-chat-messaging";
import { startChat } from "./chat.mjs";

const once = (room, event) => new Promise((resolve) => room.addListener(event, resolve));

/** A connected viewer. */
async function join(chat, userId, capabilities) {
  const room = chat.room(async () => {
    const wanted = { roomIdentifier: chat.lobby, userId, capabilities, sessionDurationInMinutes: 60 };
    const { token } = await chat.client.send(new CreateChatTokenCommand(wanted));
    // Without the times of expiry, since the SDK's timers for them would keep the process for an hour.
    return { token };
  });
  const connected = once(room, "connect");
  room.connect();
  await connected;
  return room;
}

test("two viewers talk", async (t) => {
  const chat = await startChat(t);
  const [alice, bob] = [await join(chat, "alice", ["SEND_MESSAGE"]), await join(chat, "bob", [])];
  const heard = once(bob, "message");
  await alice.sendMessage(new SendMessageRequest("hello"));
  const { content, sender } = await heard;
  assert.deepEqual([content, sender.userId], ["hello", "alice"]);
});

test("the application announces: asserted at the server, without a viewer", async (t) => {
  const chat = await startChat(t);
  const goal = { roomIdentifier: chat.lobby, eventName: "goal", attributes: { team: "red" } };
  await chat.client.send(new SendEventCommand(goal));
  const { frames } = await chat.call("/emulator/frames");
  assert.deepEqual(
    frames.map(({ frame }) => [frame.EventName, frame.Attributes]),
    [["goal", { team: "red" }]],
  );
});

test("a session ends after an hour, which takes no time: the SDK comes back with a new token", async (t) => {
  const chat = await startChat(t);
  const bob = await join(chat, "bob", []);
  const again = once(bob, "connect");
  await chat.call("/emulator/clock", { advance_seconds: 3601 });
  await again;
  const { frames } = await chat.call("/emulator/frames?user=bob");
  assert.equal(frames[0].frame.ErrorCode, 401);
});
