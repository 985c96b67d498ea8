"""An application server: makes a room, hands a chat token to each viewer, and speaks into the room itself.

    cargo run --release -- dev          # the chat server
    pip install boto3
    python3 examples/backend.py         # this: http://127.0.0.1:8090/token?user=alice
    node examples/viewer.mjs alice      # viewers, one a terminal

Against Amazon IVS Chat it runs unchanged: set REGION, and leave AWS_ENDPOINT_URL_IVSCHAT and the key out.
"""

import json
import os
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

PORT = int(os.environ.get("PORT", "8090"))
# `uproar dev` listens here, with this key, which is no secret.
os.environ.setdefault("AWS_ENDPOINT_URL_IVSCHAT", "http://127.0.0.1:8081")
os.environ.setdefault("AWS_ACCESS_KEY_ID", "AKIDUPROARDEV0000000")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "uproar-dev-secret-not-for-production")

chat = boto3.client(
    "ivschat",
    region_name=os.environ.get("REGION", "us-west-2"),
    endpoint_url=os.environ["AWS_ENDPOINT_URL_IVSCHAT"] or None,
)


def room_arn(name: str) -> str:
    """The ARN of the room of this name, which is made if there is none."""
    for room in chat.list_rooms(name=name)["rooms"]:
        return room["arn"]
    return chat.create_room(name=name, maximumMessageRatePerSecond=50)["arn"]


ROOM = room_arn("show")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        user = urllib.parse.parse_qs(url.query).get("user", [""])[0]
        if url.path != "/token" or not user:
            self.send_error(404, "GET /token?user=NAME")
            return
        # Here your own log-in decides who asks, and what they may do.
        answer = chat.create_chat_token(
            roomIdentifier=ROOM,
            userId=user,
            capabilities=["SEND_MESSAGE"],
            attributes={"name": user.title()},
            sessionDurationInMinutes=60,
        )
        # The SDK's tokenProvider wants these three; the token opens one connection.
        body = {
            "token": answer["token"],
            "sessionExpirationTime": answer["sessionExpirationTime"].isoformat(),
            "tokenExpirationTime": answer["tokenExpirationTime"].isoformat(),
        }
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        # Pages of any origin may ask; name your own in production.
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
        chat.send_event(roomIdentifier=ROOM, eventName="joining", attributes={"user": user})


print(f"tokens for {ROOM}: http://127.0.0.1:{PORT}/token?user=NAME", flush=True)
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
