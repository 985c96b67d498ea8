// Calls of the server's API: the documented operations, and nothing else.

import { Signer } from "./sign.js";

const OWN = new Set([
  ...["GetStats", "GetHistory", "GetServer", "FindRooms", "FindUser", "DescribeRoom", "TailRoom"],
  ...["DrainServer", "CancelDrain", "ReloadServer", "UpgradeServer"],
]);
const STORED = "uproar-console-key";
const WAIT_MS = 15_000;

const region = () => document.querySelector('meta[name="uproar-region"]').content;

/** A refusal: what the server says, and what it calls it. */
export class Refused extends Error {
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }

  /** The key is not, or no longer, good. */
  get isOfKey() {
    return ["UnrecognizedClientException", "InvalidSignatureException"].includes(this.kind);
  }

  /** The key is good, but not for this. */
  get isDenied() {
    return this.kind === "AccessDeniedException";
  }
}

/** One signed-in key. */
export class Api {
  #signer;
  // What must be added to this device's clock to get the server's.
  #skew = 0;

  constructor(id, secret) {
    this.#signer = new Signer(id, secret, region());
    this.id = id;
  }

  /** The answer's JSON; an answer without a body is an empty object. */
  async call(operation, input = {}) {
    const answer = await this.#send(operation, input, AbortSignal.timeout(WAIT_MS));
    const text = await answer.text();
    return text ? JSON.parse(text) : {};
  }

  /** Listens to a room until `signal` ends it; `hear` gets each frame. Returns why it has ended. */
  async tail(roomIdentifier, hear, signal, begun) {
    const answer = await this.#send("TailRoom", { roomIdentifier }, signal);
    begun();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "the connection was lost";
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const frame = JSON.parse(line);
        if (frame.Type === "END") return frame.Reason;
        hear(frame);
      }
    }
  }

  async #send(operation, input, signal) {
    const first = await this.#sendOnce(operation, input, signal);
    if (first.ok) return first;
    const refused = await refusal(first);
    // A device whose clock is wrong by minutes signs for another time; the server has told its own.
    const date = Date.parse(first.headers.get("date"));
    const isLate = Math.abs(date - Date.now() - this.#skew) > 30_000;
    if (refused.kind !== "InvalidSignatureException" || !isLate) throw refused;
    this.#skew = date - Date.now();
    const second = await this.#sendOnce(operation, input, signal);
    if (second.ok) return second;
    throw await refusal(second);
  }

  async #sendOnce(operation, input, signal) {
    const path = `${OWN.has(operation) ? "/uproar/v1" : ""}/${operation}`;
    const body = JSON.stringify(input);
    const headers = await this.#signer.headers(location.host, path, body, Date.now() + this.#skew);
    const options = { method: "POST", headers, body, signal, cache: "no-store", credentials: "omit" };
    return fetch(path, options).catch((error) => {
      if (signal.aborted && error.name === "AbortError") throw error;
      throw new Refused(0, "Unreachable", "the server does not answer");
    });
  }
}

async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  const kind = answer.headers.get("x-amzn-errortype") ?? "";
  return new Refused(answer.status, kind, said.message || `the server answered ${answer.status}`);
}

/** Keeps a key for this tab, until it is closed. */
export const remember = (id, secret) => sessionStorage.setItem(STORED, JSON.stringify({ id, secret }));
export const forget = () => sessionStorage.removeItem(STORED);
export const remembered = () => JSON.parse(sessionStorage.getItem(STORED) ?? "null");
