// Peer: Node with the packages `ws` and `redis` on Redis pub/sub. PORT, a connection's backlog in bytes, a file beside whose
// node_modules the packages are, then the port of Redis.
// A room is a channel, subscribed once for each front. What a member says is published, and comes back to this front like to
// all others. Both clients reconnect by themselves, as the package does by default; what is published meanwhile waits in it.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(process.argv[4]);
const { WebSocketServer } = require("ws");
const { createClient } = require("redis");
const port = Number(process.argv[2]);
const backlogBytesMax = Number(process.argv[3]);

const options = { url: `redis://127.0.0.1:${process.argv[5]}` };
const publisher = createClient(options);
const subscriber = createClient(options);
for (const client of [publisher, subscriber]) client.on("error", () => {});
await Promise.all([publisher.connect(), subscriber.connect()]);

const rooms = new Map();
const http = createServer();
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (socket, request) => {
  const name = request.url;
  if (!rooms.has(name)) {
    const room = new Set();
    rooms.set(name, room);
    subscriber.subscribe(name, (text) => {
      for (const member of room) {
        if (member.bufferedAmount < backlogBytesMax) member.send(text);
      }
    }).catch(() => {});
  }
  const room = rooms.get(name);
  room.add(socket);
  socket.on("message", (bytes) => {
    publisher.publish(name, bytes.toString()).catch(() => {});
  });
  socket.on("error", () => {});
  socket.on("close", () => room.delete(socket));
});
// The kernel bounds it by somaxconn.
http.listen({ host: "127.0.0.1", port, backlog: 65535 }, () => console.log(`listening on ${port}`));
