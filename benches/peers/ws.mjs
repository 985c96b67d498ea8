// Peer: Node with the package `ws`. PORT, then the bound of a connection's backlog in bytes, then
// where `ws` is found; then, for TLS, the files of certificate and key.
// `ws` has no rooms and no publish; its documentation broadcasts by a loop over the clients, as here.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createRequire } from "node:module";

const require = createRequire(process.argv[4]);
const { WebSocketServer } = require("ws");
const port = Number(process.argv[2]);
const backlogBytesMax = Number(process.argv[3]);

const rooms = new Map();
const [certificate, key] = process.argv.slice(5);
const http = certificate ? createTlsServer({ cert: readFileSync(certificate), key: readFileSync(key) }) : createServer();
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (socket, request) => {
  const name = request.url;
  if (!rooms.has(name)) rooms.set(name, new Set());
  const room = rooms.get(name);
  room.add(socket);
  socket.on("message", (bytes) => {
    for (const member of room) {
      if (member.bufferedAmount < backlogBytesMax) member.send(bytes, { binary: false });
    }
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    room.delete(socket);
    if (room.size === 0) rooms.delete(name);
  });
});
// The kernel bounds it by somaxconn.
http.listen({ host: "127.0.0.1", port, backlog: 65535 }, () => console.log(`listening on ${port}`));
