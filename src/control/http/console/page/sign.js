// AWS Signature Version 4 by the browser's own cryptography. The secret never leaves the page: what is sent is a
// signature of one request, good for some minutes.

const SERVICE = "ivschat";
const utf8 = new TextEncoder();

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const sha256 = async (text) => hex(await crypto.subtle.digest("SHA-256", utf8.encode(text)));

async function hmac(key, text) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return crypto.subtle.sign("HMAC", imported, utf8.encode(text));
}

/** Signs with one access key, in one region. */
export class Signer {
  #secret;
  #region;
  // Four HMACs a day instead of a request.
  #derived = { date: "", key: null };

  constructor(id, secret, region) {
    this.id = id;
    this.#secret = secret;
    this.#region = region;
  }

  async #key(date) {
    if (this.#derived.date !== date) {
      let key = utf8.encode(`AWS4${this.#secret}`);
      for (const part of [date, this.#region, SERVICE, "aws4_request"]) key = await hmac(key, part);
      this.#derived = { date, key };
    }
    return this.#derived.key;
  }

  /** The headers that make a POST of `body` to `path` this key's; `now` is the server's time in milliseconds. */
  async headers(host, path, body, now) {
    const time = `${new Date(now).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
    const date = time.slice(0, 8);
    const digest = await sha256(body);
    const signed = "host;x-amz-content-sha256;x-amz-date";
    const request = [
      ...["POST", path, "", `host:${host}`, `x-amz-content-sha256:${digest}`, `x-amz-date:${time}`, ""],
      ...[signed, digest],
    ].join("\n");
    const scope = `${date}/${this.#region}/${SERVICE}/aws4_request`;
    const text = ["AWS4-HMAC-SHA256", time, scope, await sha256(request)].join("\n");
    const signature = hex(await hmac(await this.#key(date), text));
    return {
      "content-type": "application/json",
      "x-amz-date": time,
      "x-amz-content-sha256": digest,
      authorization: `AWS4-HMAC-SHA256 Credential=${this.id}/${scope}, SignedHeaders=${signed}, Signature=${signature}`,
    };
  }
}
