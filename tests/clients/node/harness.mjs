// What every test of this directory needs: a server of its own, the official chat client, the official
// API client, and waiting with a deadline. Knows the command line, not the server's insides.

import assert from "node:assert/strict";
import { spawn, execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, existsSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { CreateChatTokenCommand, CreateRoomCommand, IvschatClient } from "@aws-sdk/client-ivschat";
import { ChatRoom, SendMessageRequest } from "amazon-ivs-chat-messaging";
import { WebSocket } from "ws";

// The chat client takes the browser's constructor. Node's own, undici's, is taken where a test asks for it.
if (process.env.CHAT_WEBSOCKET !== "undici") globalThis.WebSocket = WebSocket;

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const binary =
  process.env.UPROAR_BIN ??
  path.join(process.env.CARGO_TARGET_DIR ?? path.join(repository, "target"), "release", "uproar");

// Data directories of all servers of this process; gone with it.
const scratch = mkdtempSync(path.join(os.tmpdir(), "uproar-tests-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
/** A fresh directory there. */
export const directory = () => mkdtempSync(path.join(scratch, "data-"));

export const everything = ["SEND_MESSAGE", "DELETE_MESSAGE", "DISCONNECT_USER"];
export const credentials = {
  accessKeyId: "AKIDUPROARDEV0000000",
  secretAccessKey: "uproar-dev-secret-not-for-production",
};
const START_MS_MAX = 60_000;
const PAGE_MS_MAX = 30_000;
const WAIT_MS = 60_000;

/**
 * A loopback port nobody listens on, below those that outgoing connections get: whoever asks such a port
 * whether its server is up yet may be connected to itself. Those with a remainder of 3 to 7 by 8 are ours, the others
 * the Python tests', which may run beside these (ports.py).
 */
export async function freePort() {
  const range = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8");
  const outgoing = Math.max(parseInt(range), 10_100);
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * (outgoing - 10_000));
    if (port % 8 < 3) continue;
    const probe = net.createServer().listen(port, "127.0.0.1");
    try {
      await once(probe, "listening");
    } catch (error) {
      if (error.code === "EADDRINUSE") continue;
      throw error;
    }
    probe.close();
    await once(probe, "close");
    return port;
  }
}

/** Waits until `holds()` is truthy and returns that value. */
export async function until(holds, what, milliseconds = WAIT_MS) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${milliseconds} ms: ${what}`);
    await sleep(5);
  }
}

export class Server {
  credentials = credentials;

  /** `uproar dev` on free ports; resolves once it is ready. */
  static async start({ quotas = "open", extra = [], environment = {}, dataDir, messagingPort, controlPort } = {}) {
    if (!existsSync(binary)) throw new Error(`${binary} is missing: cargo build --release`);
    const server = new Server();
    server.dataDir = dataDir ?? directory();
    server.messagingPort = messagingPort ?? (await freePort());
    server.controlPort = controlPort ?? (await freePort());
    server.output = "";
    server.process = spawn(
      binary,
      [
        ...["dev", "--messaging-listen", `127.0.0.1:${server.messagingPort}`],
        ...["--control-listen", `127.0.0.1:${server.controlPort}`],
        ...["--data-dir", server.dataDir, "--shards", "2", "--quotas", quotas, ...extra],
      ],
      { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...environment } },
    );
    for (const stream of [server.process.stdout, server.process.stderr]) {
      stream.on("data", (chunk) => (server.output = (server.output + chunk).slice(-20_000)));
    }
    server.exited = once(server.process, "exit").then(([code]) => code);
    const tls = extra.includes("--tls");
    server.url = `${tls ? "wss" : "ws"}://127.0.0.1:${server.messagingPort}`;
    server.controlUrl = `${tls ? "https" : "http"}://127.0.0.1:${server.controlPort}`;
    if (tls) server.certificate = path.join(server.dataDir, "dev-cert.pem");
    const deadline = Date.now() + START_MS_MAX;
    while (!(await server.ready())) {
      if (server.process.exitCode !== null || Date.now() > deadline) {
        server.process.kill("SIGKILL");
        throw new Error(`uproar did not start:\n${server.output}`);
      }
      await sleep(20);
    }
    // Where a run is about one way of moving viewers' bytes, no test may pass with the other one by mistake.
    const io = process.env.UPROAR_TEST_IO;
    if (io && !server.output.includes(`"io":"${io}"`)) throw new Error(`not with ${io}:\n${server.output}`);
    server.api = server.client();
    return server;
  }

  /** An official client of the API. One attempt for each call, so that a refusal is seen as it is. */
  client() {
    return new IvschatClient({
      region: "us-west-2",
      endpoint: this.controlUrl,
      credentials: this.credentials,
      maxAttempts: 1,
      requestHandler: this.certificate ? { httpsAgent: new https.Agent(this.trust()) } : {},
    });
  }

  /** The answer of an operation beyond IVS Chat, which must have this status. */
  async call(operation, body, status = 200) {
    const answer = await fetch(`${this.controlUrl}/uproar/v1/${operation}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${this.credentials.accessKeyId}:${this.credentials.secretAccessKey}`,
      },
      body: JSON.stringify(body),
    });
    assert.equal(answer.status, status);
    return answer.json();
  }

  /** TLS options with the server's own certificate as the only trust anchor. */
  trust() {
    return this.certificate ? { ca: readFileSync(this.certificate) } : {};
  }

  /** Status and text of a page of the control listener. */
  page(target) {
    return new Promise((done, fail) => {
      const get = this.certificate ? https.get : http.get;
      const options = { ...this.trust(), agent: false, timeout: PAGE_MS_MAX };
      const request = get(`${this.controlUrl}${target}`, options, (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (part) => (text += part));
        answer.on("end", () => done({ status: answer.statusCode, text })).on("error", fail);
      });
      request.on("timeout", () => request.destroy(new Error("no answer"))).on("error", fail);
    });
  }

  async ready() {
    try {
      return (await this.page("/readyz")).status === 200;
    } catch {
      return false; // No certificate yet, or nobody listens yet.
    }
  }

  /** Waits until the shards hold `expected` connections each. */
  async holds(...expected) {
    const open = async () => {
      const { text } = await this.page("/metrics");
      return Array.from(text.matchAll(/^uproar_shard_connections\{.*\} (\d+)$/gm), ([, n]) => Number(n));
    };
    await until(async () => `${await open()}` === `${expected}`, `the shards hold ${expected}`);
  }

  /** `uproar upgrade`: from now on `process` is the one that serves. Its output goes where that of the old one went. */
  async upgrade(...rest) {
    const { stdout } = await promisify(execFile)(binary, ["upgrade", "--data-dir", this.dataDir, ...rest]);
    const [, pid] = stdout.match(/^process (\d+) serves /);
    const before = this.process.pid;
    const alive = () => existsSync(`/proc/${pid}`);
    const kill = (signal) => alive() && process.kill(pid, signal);
    this.process = { pid: Number(pid), kill, exitCode: null };
    // It is nobody's child here, so its exit code is not known.
    this.gone = () => until(() => !alive(), `process ${pid} ends`).then(() => 0);
    return { before, stdout };
  }

  /** SIGTERM; fails unless the exit code is 0. */
  async stop() {
    this.process.kill("SIGTERM");
    const timeout = setTimeout(() => this.process.kill("SIGKILL"), 60_000);
    const code = await (this.gone?.() ?? this.exited);
    clearTimeout(timeout);
    if (code !== 0) throw new Error(`exit ${code} after SIGTERM:\n${this.output}`);
    if (this.output.includes("panicked")) throw new Error(this.output);
  }

  /** A new room's ARN. */
  async room(settings = { maximumMessageRatePerSecond: 100 }) {
    return (await this.api.send(new CreateRoomCommand(settings))).arn;
  }

  /** What the official chat client wants from its `tokenProvider`. */
  async token(arn, userId, { capabilities = everything, attributes, minutes } = {}) {
    const made = await this.api.send(
      new CreateChatTokenCommand({
        roomIdentifier: arn,
        userId,
        capabilities,
        attributes,
        sessionDurationInMinutes: minutes,
      }),
    );
    return {
      token: made.token,
      tokenExpirationTime: made.tokenExpirationTime,
      sessionExpirationTime: made.sessionExpirationTime,
    };
  }

  /** `count` tokens by the command line. */
  async mint(arn, count, ...rest) {
    const { stdout } = await promisify(execFile)(
      binary,
      [
        ...["token", "create", "--data-dir", this.dataDir, "--room", arn, "--user", "crowd"],
        ...["--count", String(count), ...rest],
      ],
      { maxBuffer: 256 << 20 },
    );
    return stdout.trim().split("\n");
  }

  /** A connected official chat client that records everything it is told. */
  async join(arn, userId, options = {}) {
    const member = this.member(arn, userId, options);
    member.room.connect();
    await until(() => member.room.state === "connected", `${userId} connects`);
    return member;
  }

  member(arn, userId, { url = this.url, provider, ...options } = {}) {
    const member = {
      states: [],
      messages: [],
      events: [],
      deletions: [],
      disconnections: [],
      tokens: 0,
    };
    const fetchToken = provider ?? (() => this.token(arn, userId, options));
    member.room = new ChatRoom({
      regionOrUrl: url,
      tokenProvider: () => {
        member.tokens += 1;
        return fetchToken(member.tokens);
      },
    });
    member.logs = [];
    member.room.logger = {
      debug() {},
      info() {},
      error: (...words) => member.logs.push(words),
    };
    member.room.addListener("connecting", () => member.states.push("connecting"));
    member.room.addListener("connect", () => member.states.push("connect"));
    member.room.addListener("disconnect", (why) => member.states.push(`disconnect:${why}`));
    member.room.addListener("message", (message) => member.messages.push(message));
    member.room.addListener("event", (event) => member.events.push(event));
    member.room.addListener("messageDelete", (event) => member.deletions.push(event));
    member.room.addListener("userDisconnect", (event) => member.disconnections.push(event));
    member.send = (content, attributes) =>
      member.room.sendMessage(new SendMessageRequest(content, attributes));
    member.leave = () => member.room.state === "disconnected" || member.room.disconnect();
    return member;
  }
}

/** The typed ERROR a request is rejected with. */
export function refusal(promise) {
  const refused = promise.then(
    (value) => {
      throw new Error(`not refused: ${JSON.stringify(value)}`);
    },
    (error) => error,
  );
  return within(refused);
}

/** `promise`, or a failure after `milliseconds`: an unanswered request hangs for ever otherwise. */
export function within(promise, milliseconds = WAIT_MS) {
  return Promise.race([
    promise,
    sleep(milliseconds, undefined, { ref: false }).then(() => {
      throw new Error(`no answer within ${milliseconds} ms`);
    }),
  ]);
}

/** A TCP proxy whose connections can be cut without a Close frame, as a lost network does, and be deafened before. */
export async function flakyProxy(targetPort) {
  const pairs = new Set();
  const ups = new Map();
  const listener = net.createServer((down) => {
    const up = net.connect(targetPort, "127.0.0.1");
    const pair = [down, up];
    pairs.add(pair);
    ups.set(up, down);
    down.pipe(up);
    up.pipe(down);
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        ups.delete(up);
        down.destroy();
        up.destroy();
      });
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    url: `ws://127.0.0.1:${listener.address().port}`,
    cut() {
      for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy();
    },
    /** From now on nothing comes to the clients that are connected; what they say still arrives. */
    deafen() {
      for (const [up, down] of ups) {
        up.unpipe(down);
        up.resume();
      }
    },
    close() {
      this.cut();
      listener.close();
    },
  };
}
