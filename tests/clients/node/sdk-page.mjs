// A page with the official chat client as applications ship it, its ES modules, and what an application does there.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const packages = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../node_modules");
// The package's modules import each other without an extension and `uuid` by its bare name; bundlers
// resolve both, here the page and its server do.
const page = `<!doctype html><meta charset="utf-8"><title>chat</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {
  "amazon-ivs-chat-messaging": "/amazon-ivs-chat-messaging/dist/esm/index.js",
  "uuid": "/uuid/dist/esm-browser/index.js"
}}</script>`;

/** Serves the page, the packages' modules, and a token for each `POST /token/USER`. */
export async function application(tokenFor) {
  const site = http.createServer(async (request, response) => {
    try {
      const { pathname } = new URL(request.url, "http://localhost");
      if (pathname === "/") {
        response.setHeader("Content-Type", "text/html").end(page);
      } else if (pathname.startsWith("/token/")) {
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify(await tokenFor(decodeURIComponent(pathname.slice("/token/".length)))));
      } else {
        const file = path.join(packages, pathname);
        const text = await readFile(path.extname(file) ? file : `${file}.js`);
        response.setHeader("Content-Type", "text/javascript").end(text);
      }
    } catch (error) {
      response.writeHead(404).end(String(error));
    }
  });
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  return site;
}

// -- what an application does; these functions run in the page --

export const connect = async (url, user) => {
  const { ChatRoom } = await import("amazon-ivs-chat-messaging");
  window.tokens = 0;
  window.log = [];
  window.ending = null;
  const { addEventListener } = WebSocket.prototype;
  WebSocket.prototype.addEventListener = function (name, ...rest) {
    if (name === "close") {
      const note = ({ code, wasClean, reason }) => (window.ending = { code, wasClean, reason });
      addEventListener.call(this, name, note);
    }
    return addEventListener.call(this, name, ...rest);
  };
  window.room = new ChatRoom({
    regionOrUrl: url,
    tokenProvider: async () => {
      window.tokens += 1;
      const token = await (await fetch(`/token/${user}`, { method: "POST" })).json();
      // Without this date the client does not swap connections by itself.
      return { token: token.token };
    },
  });
  for (const name of ["connecting", "connect", "disconnect"]) {
    room.addListener(name, (why) => log.push([name, why]));
  }
  // In full, in order.
  window.told = { event: [], message: [], messageDelete: [] };
  for (const name of Object.keys(told)) room.addListener(name, (frame) => told[name].push(frame));
  room.addListener("message", ({ sender, content, attributes }) =>
    log.push(["message", sender.userId, content, attributes]),
  );
  for (const name of ["event", "messageDelete", "userDisconnect"]) {
    room.addListener(name, (event) => log.push([name, event.messageId ?? event.userId ?? event.eventName]));
  }
  room.connect();
};
export const connected = () => room.state === "connected";
export const heard = (...entry) => log.some((one) => JSON.stringify(one).startsWith(JSON.stringify(entry).slice(0, -1)));
/** What became of `room[method](new Request(...))`. */
export const ask = async (method, request, ...values) => {
  const sdk = await import("amazon-ivs-chat-messaging");
  try {
    return { ok: await room[method](new sdk[request](...values)) };
  } catch (error) {
    return { code: error.errorCode, message: error.errorMessage };
  }
};

/** A tab of a user who is connected. */
export async function visit(user, [browser, site, server]) {
  const tab = await browser.open(`http://127.0.0.1:${site.address().port}/`);
  await tab.run(connect, server.url, user);
  await tab.until(connected, `${user} connects`);
  return tab;
}
