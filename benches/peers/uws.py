"""Peer: uWebSockets through socketify, its own publish. PORT, then the bound of a connection's backlog in bytes;
then, for TLS, the files of certificate and key.

What Python adds runs once for each message that comes in, not for each delivery: publish, the walk over the
subscribers and the sends are uWebSockets' own code.
"""

import sys

from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode

PORT, BACKLOG_BYTES_MAX = int(sys.argv[1]), int(sys.argv[2])
TLS = AppOptions(cert_file_name=sys.argv[3], key_file_name=sys.argv[4]) if len(sys.argv) > 3 else None


def upgrade(response, request, context):
    key = request.get_header("sec-websocket-key")
    protocol = request.get_header("sec-websocket-protocol")
    extensions = request.get_header("sec-websocket-extensions")
    response.upgrade(key, protocol, extensions, context, request.get_url())


def joined(socket):
    socket.subscribe(socket.get_user_data())


def said(socket, text, opcode):
    # Of the application, not of the socket: the speaker hears itself.
    app.publish(socket.get_user_data(), text, OpCode.TEXT)


app = App(TLS)
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 64 * 1024,
        "max_backpressure": BACKLOG_BYTES_MAX,
        "close_on_backpressure_limit": False,
        # No timer and no ping: silence is no reason to cut a viewer, and pings are not what is measured.
        "idle_timeout": 0,
        "send_pings_automatically": False,
        "upgrade": upgrade,
        "open": joined,
        "message": said,
    },
)
app.listen(AppListenOptions(port=PORT, host="127.0.0.1"), lambda _: print(f"listening on {PORT}", flush=True))
# Not app.run(): that polls from Python, for coroutines; without any, uWebSockets may wait in its own loop.
app.loop.uv_loop.run()
