// The AWS SDK for JavaScript over HTTP/2, under throttling, and with a key that has few rights.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";

import {
  AccessDeniedException,
  CreateChatTokenCommand,
  CreateRoomCommand,
  GetRoomCommand,
  IvschatClient,
  ListRoomsCommand,
  ListTagsForResourceCommand,
  ResourceNotFoundException,
  TagResourceCommand,
  ThrottlingException,
  UntagResourceCommand,
} from "@aws-sdk/client-ivschat";
import { NodeHttp2Handler } from "@smithy/node-http-handler";

import { Server, binary, credentials } from "./harness.mjs";

const client = (server, overrides) =>
  new IvschatClient({
    region: "us-west-2",
    endpoint: server.controlUrl,
    credentials,
    maxAttempts: 1,
    ...overrides,
  });

describe("HTTP/2", () => {
  let server, api;
  before(async () => {
    server = await Server.start();
    api = client(server, { requestHandler: new NodeHttp2Handler() });
  });
  after(async () => {
    api.destroy();
    await server.stop();
  });

  test("carries calls, many at once on one connection", async () => {
    const made = await Promise.all(
      Array.from({ length: 40 }, (_, i) => api.send(new CreateRoomCommand({ name: `h2-${i}` }))),
    );
    assert.equal(new Set(made.map((room) => room.arn)).size, 40);
    const resourceArn = made[0].arn;
    await api.send(new TagResourceCommand({ resourceArn, tags: { "a b": "ü" } }));
    await api.send(new UntagResourceCommand({ resourceArn, tagKeys: ["x y"] }));
    const { tags } = await api.send(new ListTagsForResourceCommand({ resourceArn }));
    assert.deepEqual(tags, { "a b": "ü" });
    const ghost = "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA";
    await assert.rejects(api.send(new GetRoomCommand({ identifier: ghost })), ResourceNotFoundException);
  });

  test("checks signatures as HTTP/1.1 does", async () => {
    const forged = client(server, {
      requestHandler: new NodeHttp2Handler(),
      credentials: { ...credentials, secretAccessKey: "wrong" },
    });
    await assert.rejects(forged.send(new ListRoomsCommand({})), { name: "InvalidSignatureException" });
    forged.destroy();
  });
});

test("throttling is the SDK's exception, and the SDK tries again", async () => {
  const server = await Server.start({ quotas: "aws" });
  try {
    const api = client(server);
    const error = await (async () => {
      for (let i = 0; i < 60; i++) {
        try {
          await api.send(new ListRoomsCommand({}));
        } catch (error) {
          return error;
        }
      }
    })();
    assert.ok(error instanceof ThrottlingException, String(error));
    assert.equal(error.$metadata.httpStatusCode, 429);
    assert.equal(error.limit, 5);
    assert.equal(error.resourceType, "ROOM");
    assert.ok(error.resourceId && error.message);
    const patient = client(server, { maxAttempts: 10 });
    let attempts = 0;
    for (let i = 0; i < 15 && attempts <= 1; i++) {
      attempts = (await patient.send(new ListRoomsCommand({}))).$metadata.attempts;
    }
    assert.ok(attempts > 1, "fifteen calls in a row were answered at once");
  } finally {
    await server.stop();
  }
});

test("a key for tokens only is denied the rest by exception class", async () => {
  const server = await Server.start();
  try {
    const { stdout } = await promisify(execFile)(binary, [
      ...["keys", "create", "--role", "mint", "--data-dir", server.dataDir],
    ]);
    const made = Object.fromEntries(stdout.trim().split("\n").map((line) => line.split(/=(.*)/s)));
    const api = client(server, {
      credentials: {
        accessKeyId: made.AWS_ACCESS_KEY_ID,
        secretAccessKey: made.AWS_SECRET_ACCESS_KEY,
      },
    });
    const arn = await server.room();
    const { token } = await api.send(new CreateChatTokenCommand({ roomIdentifier: arn, userId: "u" }));
    assert.ok(token);
    await assert.rejects(api.send(new GetRoomCommand({ identifier: arn })), (error) => {
      assert.ok(error instanceof AccessDeniedException, String(error));
      assert.equal(error.$metadata.httpStatusCode, 403);
      assert.match(error.message, /ivschat:GetRoom/);
      return true;
    });
  } finally {
    await server.stop();
  }
});
