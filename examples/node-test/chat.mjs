// A chat server for each test: ready in milliseconds, gone without a trace. `uproar` is on the PATH, or UPROAR names it.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { IvschatClient } from "@aws-sdk/client-ivschat";
import { ChatRoom } from "amazon-ivs-chat-messaging";

const UPROAR = process.env.UPROAR ?? "uproar";

/** Starts a server; `facts` is its ready file: addresses, key, ARNs, process id. It ends with the test `t`. */
export async function startChat(t, ...extra) {
  const directory = await mkdtemp(join(tmpdir(), "chat-"));
  const ready = join(directory, "uproar.json");
  const flags = ["--free-ports", "--ready-file", ready, "--quotas", "open", "--shards", "1", "--frames", "1000", ...extra];
  const server = spawn(UPROAR, ["dev", ...flags], { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => server.once("exit", resolve));
  const rooms = [];
  t.after(async () => {
    // First, because a viewer that is cut tries to come back.
    await Promise.all(rooms.map(leave));
    server.kill();
    await ended;
    await rm(directory, { recursive: true });
  });
  const { stdout } = await promisify(execFile)(UPROAR, ["wait", "--ready-file", ready]);
  return new Chat(JSON.parse(stdout), rooms);
}

function leave(room) {
  if (room.state === "disconnected") return undefined;
  const left = new Promise((resolve) => room.addListener("disconnect", resolve));
  room.disconnect();
  return left;
}

class Chat {
  constructor(facts, rooms) {
    this.facts = facts;
    this.rooms = rooms;
    this.lobby = facts.rooms.lobby;
    this.client = new IvschatClient({
      endpoint: facts.control,
      region: facts.region,
      credentials: { accessKeyId: facts.access_key_id, secretAccessKey: facts.secret_access_key },
    });
  }

  /** The official chat client; `tokenProvider` is the application's. */
  room(tokenProvider) {
    const room = new ChatRoom({ regionOrUrl: this.facts.messaging, tokenProvider });
    room.logLevel = "error";
    this.rooms.push(room);
    return room;
  }

  /** An endpoint of the emulator: a body makes it a POST. */
  async call(path, body) {
    const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const answer = await fetch(`${this.facts.control}${path}`, options);
    if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
    return answer.json();
  }
}
