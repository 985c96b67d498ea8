// What to paste next, for this very server. The keys are those of `uproar dev`: public, loopback only.

const REGION = "us-west-2";
const KEY = "AKIDUPROARDEV0000000";
const SECRET = "uproar-dev-secret-not-for-production";

/** One word of a shell. */
const quoted = (word) => (/^[\w./:@%+,=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Title and text of each snippet. */
export function snippets({ control, room, command, certificate }) {
  const messaging = location.origin.replace(/^http/, "ws");
  const trust = certificate ? `\nexport AWS_CA_BUNDLE=${quoted(certificate)} NODE_EXTRA_CA_CERTS=${quoted(certificate)}` : "";
  // What runs here, and where it keeps its keys: other commands of it, too.
  const uproar = (words) => command.replace(" token create", ` ${words}`);
  return [
    [
      "Shell: AWS CLI and every SDK",
      `export AWS_ENDPOINT_URL_IVSCHAT=${control}
export AWS_REGION=${REGION} AWS_DEFAULT_REGION=${REGION}
export AWS_ACCESS_KEY_ID=${KEY}
export AWS_SECRET_ACCESS_KEY=${SECRET}${trust}
aws ivschat list-rooms
aws ivschat send-event --event-name hello \\
    --room-identifier ${room} \\
    --attributes from=cli`,
    ],
    [
      "Python",
      `# pip install boto3
import boto3

chat = boto3.client(
    "ivschat",
    region_name="${REGION}",
    endpoint_url="${control}",
    aws_access_key_id="${KEY}",
    aws_secret_access_key="${SECRET}",
)
room = "${room}"
token = chat.create_chat_token(
    roomIdentifier=room, userId="bob", capabilities=["SEND_MESSAGE"]
)
print(token["token"])
chat.send_event(
    roomIdentifier=room, eventName="hello", attributes={"from": "boto3"}
)`,
    ],
    [
      "JavaScript in Node 22",
      `// npm install amazon-ivs-chat-messaging @aws-sdk/client-ivschat
import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { CreateChatTokenCommand, IvschatClient } from "@aws-sdk/client-ivschat";

const api = new IvschatClient({
  region: "${REGION}",
  endpoint: "${control}",
  credentials: {
    accessKeyId: "${KEY}",
    secretAccessKey: "${SECRET}",
  },
});
const room = new ChatRoom({
  regionOrUrl: "${messaging}",
  tokenProvider: () =>
    api.send(new CreateChatTokenCommand({
      roomIdentifier: "${room}",
      userId: "alice",
      capabilities: ["SEND_MESSAGE"],
    })),
});
room.logLevel = "error";
room.addListener("message", (message) => console.log(message.sender.userId, message.content));
room.addListener("connect", () => room.sendMessage(new SendMessageRequest("hello from Node")));
room.connect();`,
    ],
    [
      "A token without the API",
      `${command} \\
    --room ${room} \\
    --user bob --capability SEND_MESSAGE`,
    ],
    [
      "In a terminal: what happens here, live",
      `${uproar("top")}
${uproar("tap")} lobby
${uproar("send")} lobby "hello from a terminal"`,
    ],
  ];
}
