// Peer: Bun's built-in WebSocket server and its own publish, the reference of the comparison.
// PORT, then the bound of a connection's backlog in bytes; then, for TLS, the files of certificate and key.
const port = Number(process.argv[2]);
const backlogBytesMax = Number(process.argv[3]);
const [certificate, key] = process.argv.slice(4);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  tls: certificate ? { cert: Bun.file(certificate), key: Bun.file(key) } : undefined,
  fetch(request, server) {
    const room = new URL(request.url).pathname;
    return server.upgrade(request, { data: { room } }) ? undefined : new Response("", { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    // No timer and no ping: silence is no reason to cut a viewer, and pings are not what is measured.
    idleTimeout: 0,
    sendPings: false,
    backpressureLimit: backlogBytesMax,
    closeOnBackpressureLimit: false,
    open(socket) {
      socket.subscribe(socket.data.room);
    },
    message(socket, text) {
      // Of the server, not of the socket: the speaker hears itself.
      server.publish(socket.data.room, text, false);
    },
  },
});
console.log(`listening on ${server.port}`);
