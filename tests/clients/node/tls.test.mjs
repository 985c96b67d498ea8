// `uproar dev --tls`: the official client over wss, with the certificate the server made as its only
// trust anchor. Node reads NODE_EXTRA_CA_CERTS at start, so the client runs in a child of its own.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Server, within } from "./harness.mjs";

const client = path.join(path.dirname(fileURLToPath(import.meta.url)), "tls-client.mjs");

describe("wss with a throw-away certificate", () => {
  let server, certificate;
  before(async () => {
    server = await Server.start({ extra: ["--tls"] });
    certificate = path.join(server.dataDir, "dev-cert.pem");
  });
  after(() => server.stop());

  async function chat(environment) {
    const arn = await server.room();
    const tokens = [await server.token(arn, "alice"), await server.token(arn, "bob")];
    return promisify(execFile)(process.execPath, [client, server.url, JSON.stringify(tokens)], {
      env: { ...process.env, ...environment },
      timeout: 20_000,
    });
  }

  test("a client that trusts the certificate chats", async () => {
    assert.ok(existsSync(certificate));
    const { stdout } = await chat({ NODE_EXTRA_CA_CERTS: certificate });
    assert.equal(stdout.trim(), "60 heard in order");
  });

  test("a client that does not trust it is not connected", async () => {
    await assert.rejects(chat({ NODE_EXTRA_CA_CERTS: "" }), /socketError/);
  });

  test("old protocol versions are refused, new ones are not", async () => {
    const handshake = (version) =>
      new Promise((done, fail) => {
        const socket = tls.connect(
          {
            host: "127.0.0.1",
            port: server.messagingPort,
            minVersion: version,
            maxVersion: version,
            rejectUnauthorized: false,
            ciphers: "DEFAULT@SECLEVEL=0",
          },
          () => {
            done(socket.getProtocol());
            socket.destroy();
          },
        );
        socket.on("error", fail);
      });
    assert.equal(await handshake("TLSv1.3"), "TLSv1.3");
    assert.equal(await handshake("TLSv1.2"), "TLSv1.2");
    await assert.rejects(handshake("TLSv1.1"));
    await assert.rejects(handshake("TLSv1"));
  });

  test("HTTP on the TLS port is told so and harms nobody", async () => {
    const answer = await fetch(`http://127.0.0.1:${server.messagingPort}/`);
    assert.equal(answer.status, 400);
    assert.match((await answer.json()).ErrorMessage, /This port speaks TLS/);
    const { stdout } = await chat({ NODE_EXTRA_CA_CERTS: certificate });
    assert.equal(stdout.trim(), "60 heard in order");
  });
});

// With a server of its own, whose new processes each make another certificate.
test("clients over wss stay connected while a new process takes over, twice", async () => {
  const server = await Server.start({ extra: ["--tls"] });
  const certificate = path.join(server.dataDir, "dev-cert.pem");
  const arn = await server.room();
  const tokens = [await server.token(arn, "alice"), await server.token(arn, "bob")];
  const chatting = spawn(process.execPath, [client, server.url, JSON.stringify(tokens), "3"], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS: certificate },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(chatting, "exit");
  const lines = createInterface({ input: chatting.stdout })[Symbol.asyncIterator]();
  const heard = async () => assert.equal((await within(lines.next())).value, "60 heard in order");
  await heard();
  for (const _time of [1, 2]) {
    const { stdout } = await server.upgrade();
    assert.match(stdout, /serves 2 viewers/);
    chatting.stdin.write("on\n");
    await heard();
  }
  assert.deepEqual(await ended, [0, null]);
  await server.stop();
});

test("a client that comes back resumes its session, in the next process too", async () => {
  const server = await Server.start({ extra: ["--tls"] });
  const certificate = path.join(server.dataDir, "dev-cert.pem");
  const arn = await server.room();
  const tokens = await Promise.all(["a", "b", "c"].map((user) => server.token(arn, user)));
  const returning = spawn(
    process.execPath,
    [path.join(path.dirname(client), "tls-return.mjs"), server.url, JSON.stringify(tokens)],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: certificate }, stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = once(returning, "exit");
  const lines = createInterface({ input: returning.stdout })[Symbol.asyncIterator]();
  const next = async () => (await within(lines.next())).value;
  assert.equal(await next(), "full");
  returning.stdin.write("on\n");
  assert.equal(await next(), "resumed");
  await server.upgrade();
  returning.stdin.write("on\n");
  assert.equal(await next(), "resumed");
  assert.deepEqual(await ended, [0, null]);
  await server.stop();
});
