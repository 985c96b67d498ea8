// The control plane through the AWS SDK for JavaScript: typed errors, dates, pagination.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import {
  ConflictException,
  CreateChatTokenCommand,
  CreateLoggingConfigurationCommand,
  CreateRoomCommand,
  DeleteLoggingConfigurationCommand,
  DeleteMessageCommand,
  DeleteRoomCommand,
  DisconnectUserCommand,
  GetLoggingConfigurationCommand,
  GetRoomCommand,
  IvschatClient,
  ListLoggingConfigurationsCommand,
  ListRoomsCommand,
  ListTagsForResourceCommand,
  ResourceNotFoundException,
  SendEventCommand,
  ServiceQuotaExceededException,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateLoggingConfigurationCommand,
  UpdateRoomCommand,
  ValidationException,
  paginateListLoggingConfigurations,
  paginateListRooms,
} from "@aws-sdk/client-ivschat";

import { Server, credentials, everything } from "./harness.mjs";

const ghost = "arn:aws:ivschat:us-west-2:123456789012:room/AAAAAAAAAAAA";

describe("the AWS SDK for JavaScript", () => {
  let server, api;
  before(async () => {
    server = await Server.start();
    api = server.api;
  });
  after(() => server.stop());

  test("a room lives through create, get, update, list and delete", async () => {
    const made = await api.send(new CreateRoomCommand({ name: "js", tags: { a: "ü" } }));
    assert.match(made.arn, /^arn:aws:ivschat:us-west-2:123456789012:room\/[a-zA-Z0-9]{12}$/);
    assert.ok(made.createTime instanceof Date && made.updateTime instanceof Date);
    assert.equal(made.maximumMessageLength, 500);
    assert.equal(made.maximumMessageRatePerSecond, 10);
    const updated = await api.send(
      new UpdateRoomCommand({ identifier: made.arn, name: "js2", maximumMessageLength: 20 }),
    );
    assert.equal(updated.name, "js2");
    const found = await api.send(new GetRoomCommand({ identifier: made.arn }));
    assert.equal(found.maximumMessageLength, 20);
    assert.deepEqual(found.tags, { a: "ü" });
    const listed = await api.send(new ListRoomsCommand({ name: "js2" }));
    assert.deepEqual(listed.rooms.map((room) => room.arn), [made.arn]);
    const gone = await api.send(new DeleteRoomCommand({ identifier: made.arn }));
    assert.equal(gone.$metadata.httpStatusCode, 204);
    await assert.rejects(api.send(new GetRoomCommand({ identifier: made.arn })), ResourceNotFoundException);
  });

  test("tokens, events and moderation answer as the model says", async () => {
    const arn = await server.room();
    const token = await api.send(
      new CreateChatTokenCommand({ roomIdentifier: arn, userId: "u", capabilities: everything }),
    );
    assert.ok(token.tokenExpirationTime instanceof Date && token.sessionExpirationTime instanceof Date);
    const event = await api.send(new SendEventCommand({ roomIdentifier: arn, eventName: "e" }));
    assert.match(event.id, /^[a-zA-Z0-9]{12}$/);
    const deletion = await api.send(new DeleteMessageCommand({ roomIdentifier: arn, id: "AAAAAAAAAAAA" }));
    assert.match(deletion.id, /^[a-zA-Z0-9]{12}$/);
    const out = await api.send(new DisconnectUserCommand({ roomIdentifier: arn, userId: "u" }));
    assert.equal(out.$metadata.httpStatusCode, 200);
  });

  test("refusals are the exception classes of the SDK, with their members", async () => {
    await assert.rejects(api.send(new GetRoomCommand({ identifier: ghost })), (error) => {
      assert.ok(error instanceof ResourceNotFoundException);
      assert.equal(error.$metadata.httpStatusCode, 404);
      assert.equal(error.resourceId, "AAAAAAAAAAAA");
      assert.equal(error.resourceType, "ROOM");
      assert.ok(error.message);
      assert.ok(error.$metadata.requestId);
      return true;
    });
    await assert.rejects(
      api.send(new CreateRoomCommand({ maximumMessageRatePerSecond: 101 })),
      (error) => {
        assert.ok(error instanceof ValidationException);
        assert.equal(error.reason, "FIELD_VALIDATION_FAILED");
        assert.equal(error.fieldList[0].name, "maximumMessageRatePerSecond");
        assert.ok(error.fieldList[0].message);
        return true;
      },
    );
  });

  test("what the SDK does not check, the server does", async () => {
    const arn = await server.room();
    for (const command of [
      new CreateRoomCommand({ maximumMessageRatePerSecond: 0 }),
      new CreateRoomCommand({ maximumMessageLength: 0 }),
      new CreateRoomCommand({ maximumMessageLength: 1.5 }),
      new CreateRoomCommand({ name: 7 }),
      new CreateRoomCommand({ tags: { k: 1 } }),
      new CreateRoomCommand({ tags: { "": "v" } }),
      new GetRoomCommand({}),
      new GetRoomCommand({ identifier: "" }),
      new ListRoomsCommand({ maxResults: 0 }),
      new CreateChatTokenCommand({ roomIdentifier: arn }),
      new CreateChatTokenCommand({ roomIdentifier: arn, userId: "" }),
      new CreateChatTokenCommand({ roomIdentifier: arn, userId: "u", sessionDurationInMinutes: 0 }),
      new CreateChatTokenCommand({ roomIdentifier: arn, userId: "u", attributes: { k: 1 } }),
      new SendEventCommand({ roomIdentifier: arn, eventName: "" }),
      new DeleteMessageCommand({ roomIdentifier: arn, id: "short" }),
      new DeleteMessageCommand({ roomIdentifier: arn, id: "AAAAAAAAAAAA", reason: "" }),
      new DisconnectUserCommand({ roomIdentifier: arn, userId: "" }),
      new CreateLoggingConfigurationCommand({}),
      new CreateLoggingConfigurationCommand({ destinationConfiguration: { s3: { bucketName: "ab" } } }),
      new UpdateLoggingConfigurationCommand({ identifier: ghost }),
      new GetLoggingConfigurationCommand({ identifier: "" }),
      new ListLoggingConfigurationsCommand({ maxResults: 51 }),
      new TagResourceCommand({ resourceArn: arn }),
      new TagResourceCommand({ resourceArn: arn, tags: { k: 1 } }),
    ]) {
      const label = `${command.constructor.name} ${JSON.stringify(command.input)}`;
      await assert.rejects(api.send(command), (error) => {
        assert.ok(error instanceof ValidationException, `${label}: ${error.name}`);
        return true;
      });
    }
  });

  test("paginateListRooms visits every room once", async () => {
    const name = `page-${Date.now()}`;
    const made = [];
    for (let i = 0; i < 11; i++) made.push((await api.send(new CreateRoomCommand({ name }))).arn);
    const seen = [];
    let pages = 0;
    for await (const page of paginateListRooms({ client: api, pageSize: 4 }, { name })) {
      pages += 1;
      seen.push(...page.rooms.map((room) => room.arn));
      assert.ok(pages < 10);
    }
    assert.equal(pages, 3);
    assert.deepEqual([...seen].sort(), [...made].sort());
  });

  test("a logging configuration lives through create, get, update, use, list and delete", async () => {
    const s3 = { s3: { bucketName: "js-bucket" } };
    const made = await api.send(
      new CreateLoggingConfigurationCommand({ name: "js", destinationConfiguration: s3, tags: { a: "b" } }),
    );
    assert.match(made.arn, /:logging-configuration\/[a-zA-Z0-9]{12}$/);
    assert.equal(made.state, "ACTIVE");
    assert.ok(made.createTime instanceof Date && made.updateTime instanceof Date);
    assert.deepEqual(made.destinationConfiguration, s3);
    const identifier = made.arn;
    const logGroup = { cloudWatchLogs: { logGroupName: "g" } };
    const moved = await api.send(
      new UpdateLoggingConfigurationCommand({ identifier, destinationConfiguration: logGroup }),
    );
    assert.deepEqual(moved.destinationConfiguration, logGroup);
    assert.equal(moved.name, "js");
    const found = await api.send(new GetLoggingConfigurationCommand({ identifier }));
    assert.deepEqual(found.destinationConfiguration, logGroup);
    const room = await api.send(new CreateRoomCommand({ loggingConfigurationIdentifiers: [identifier] }));
    assert.deepEqual(room.loggingConfigurationIdentifiers, [identifier]);
    await assert.rejects(api.send(new DeleteLoggingConfigurationCommand({ identifier })), (error) => {
      assert.ok(error instanceof ConflictException);
      assert.equal(error.$metadata.httpStatusCode, 409);
      assert.equal(error.resourceId, made.id);
      assert.equal(error.resourceType, "ROOM");
      return true;
    });
    await api.send(new DeleteRoomCommand({ identifier: room.arn }));
    const gone = await api.send(new DeleteLoggingConfigurationCommand({ identifier }));
    assert.equal(gone.$metadata.httpStatusCode, 204);
    const listed = await api.send(new ListLoggingConfigurationsCommand({}));
    assert.deepEqual(listed.loggingConfigurations, []);
  });

  test("paginateListLoggingConfigurations visits each once; the eleventh exceeds the quota", async () => {
    const destinationConfiguration = { firehose: { deliveryStreamName: "s" } };
    const create = () => api.send(new CreateLoggingConfigurationCommand({ destinationConfiguration }));
    const made = [];
    for (let i = 0; i < 10; i++) made.push((await create()).arn);
    await assert.rejects(create(), (error) => {
      assert.ok(error instanceof ServiceQuotaExceededException);
      assert.equal(error.$metadata.httpStatusCode, 402);
      assert.equal(error.limit, 10);
      return true;
    });
    const seen = [];
    for await (const page of paginateListLoggingConfigurations({ client: api, pageSize: 3 }, {})) {
      assert.ok(page.loggingConfigurations.length <= 3);
      seen.push(...page.loggingConfigurations.map((found) => found.arn));
      assert.ok(seen.length <= 10);
    }
    assert.deepEqual([...seen].sort(), [...made].sort());
    for (const identifier of made) await api.send(new DeleteLoggingConfigurationCommand({ identifier }));
  });

  test("tags are listed, added and taken away", async () => {
    const resourceArn = await server.room();
    await api.send(new TagResourceCommand({ resourceArn, tags: { k: "v", "a b/ü+=&'()*!": "w" } }));
    const list = () => api.send(new ListTagsForResourceCommand({ resourceArn }));
    assert.deepEqual((await list()).tags, { k: "v", "a b/ü+=&'()*!": "w" });
    const tagKeys = ["a b/ü+=&'()*!", "never"];
    const out = await api.send(new UntagResourceCommand({ resourceArn, tagKeys }));
    assert.equal(out.$metadata.httpStatusCode, 200);
    assert.deepEqual((await list()).tags, { k: "v" });
    const absent = new ListTagsForResourceCommand({ resourceArn: ghost });
    await assert.rejects(api.send(absent), ResourceNotFoundException);
  });

  test("wrong credentials are refused by name", async () => {
    const forge = (overrides) =>
      new IvschatClient({
        region: "us-west-2",
        endpoint: server.controlUrl,
        credentials,
        maxAttempts: 1,
        ...overrides,
      }).send(new ListRoomsCommand({}));
    for (const [overrides, names] of [
      [{ credentials: { ...credentials, secretAccessKey: "wrong" } }, /InvalidSignature|SignatureDoesNotMatch/],
      [{ credentials: { ...credentials, accessKeyId: "AKIDNOBODY0000000000" } }, /UnrecognizedClient|InvalidClientTokenId/],
      [{ region: "eu-central-1" }, /InvalidSignature|SignatureDoesNotMatch/],
    ]) {
      await assert.rejects(forge(overrides), (error) => {
        assert.match(error.name, names);
        assert.equal(error.$metadata.httpStatusCode, 403);
        return true;
      });
    }
  });

  test("browser applications may call it: CORS preflight", async () => {
    const answer = await fetch(`${server.controlUrl}/CreateChatToken`, {
      method: "OPTIONS",
      headers: {
        Origin: "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-amz-date",
      },
    });
    assert.ok(answer.status < 300);
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    const allowed = answer.headers.get("access-control-allow-headers").toLowerCase();
    assert.match(allowed, /authorization/);
  });
});
