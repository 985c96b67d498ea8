// A headless Chromium, driven over its DevTools protocol: pages that run functions, and what went wrong in them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { after, before } from "node:test";

import { WebSocket } from "ws";

import { Server, until } from "./harness.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
// Chromium's first start on a loaded machine reads 300 MB.
const START_MS_MAX = 60_000;
const WAIT_MS = 60_000;
const KEY_CODES = { Tab: 9, Enter: 13, Escape: 27, End: 35, Home: 36, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 };

function executable() {
  if (process.env.UPROAR_CHROMIUM) return process.env.UPROAR_CHROMIUM;
  const candidates = process.env.PATH.split(":").flatMap((directory) =>
    NAMES.map((name) => path.join(directory, name)),
  );
  const found = candidates.find((candidate) => existsSync(candidate));
  if (!found) throw new Error("no Chromium: apt-get install chromium, or set UPROAR_CHROMIUM");
  return found;
}

/** For `Page.run`: elements that stick out of the window; those in `aside`, as code that scrolls in its frame, may. */
export const tooWide = (aside = "pre") => {
  const wide = [...document.querySelectorAll("body *")].filter((element) => {
    const { right, width } = element.getBoundingClientRect();
    return width > 0 && right > innerWidth + 1 && !element.closest(aside);
  });
  return wide.map((element) => element.outerHTML.slice(0, 80));
};

export class Browser {
  #profile = mkdtempSync(path.join(os.tmpdir(), "uproar-chromium-"));
  #asked = new Map();
  #serial = 0;
  #pages = new Map();

  /** `extra`: further arguments of Chromium. */
  static async launch(extra = []) {
    const browser = new Browser();
    browser.process = spawn(
      executable(),
      [
        ...["--headless=new", "--remote-debugging-port=0", `--user-data-dir=${browser.#profile}`],
        ...["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"],
        // Tabs behind the one in front are somebody's, too: their timers run as in a window of their own.
        ...["--disable-background-timer-throttling", "--disable-renderer-backgrounding"],
        // Chromium refuses its sandbox to root; these pages are our own.
        ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
        ...extra,
        "about:blank",
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    browser.exited = once(browser.process, "exit");
    let said = "";
    browser.process.stderr.on("data", (chunk) => (said = (said + chunk).slice(-20_000)));
    const url = await until(
      () => {
        if (browser.process.exitCode !== null) throw new Error(`Chromium ended:\n${said}`);
        return said.match(/DevTools listening on (ws:\S+)/)?.[1];
      },
      "Chromium starts",
      START_MS_MAX,
    );
    browser.socket = new WebSocket(url);
    browser.socket.on("message", (text) => browser.#receive(JSON.parse(text)));
    await once(browser.socket, "open");
    return browser;
  }

  #receive({ id, sessionId, method, params, result, error }) {
    if (id === undefined) {
      this.#pages.get(sessionId)?.heard(method, params);
      return;
    }
    const { resolve, reject } = this.#asked.get(id);
    this.#asked.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  ask(method, params = {}, sessionId = undefined) {
    const id = ++this.#serial;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  /** A new tab that shows `url`. */
  async open(url) {
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.ask("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page((method, params) => this.ask(method, params, sessionId));
    this.#pages.set(sessionId, page);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.ask(`${domain}.enable`);
    await page.ask("Page.navigate", { url });
    await page.until(() => document.readyState === "complete", `${url} loads`);
    return page;
  }

  async close() {
    // Asked, it takes its helpers along; killed, it leaves them writing to the profile for a while.
    await this.ask("Browser.close");
    const late = setTimeout(() => this.process.kill("SIGKILL"), START_MS_MAX);
    await this.exited;
    clearTimeout(late);
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 20 });
  }
}

class Page {
  /** Exceptions, and whatever the browser logs as an error: a breach of the content policy, for one. */
  faults = [];
  /** URLs asked for, WebSockets included. */
  requests = [];

  constructor(ask) {
    this.ask = ask;
  }

  heard(method, params) {
    if (method === "Runtime.exceptionThrown") {
      this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    } else if (method === "Log.entryAdded" && params.entry.level === "error") {
      this.faults.push(params.entry.text);
    } else if (method === "Network.requestWillBeSent") {
      this.requests.push(params.request.url);
    } else if (method === "Network.webSocketCreated") {
      this.requests.push(params.url);
    }
  }

  /** Runs `work(...values)` in the page; what it returns must be JSON. */
  async run(work, ...values) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", {
      expression: `(${work})(...${JSON.stringify(values)})`,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description);
    return result.value;
  }

  /** Waits until `holds(...values)` is truthy in the page. */
  async until(holds, what, ...values) {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      const value = await this.run(holds, ...values);
      if (value) return value;
      if (Date.now() > deadline) {
        throw new Error(`not within ${WAIT_MS} ms: ${what}\n${await this.run(() => document.body.innerText)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Presses a key where the focus is, as a person does. */
  async key(name, text = undefined) {
    // Keys of a tab behind others wait for it to be drawn.
    await this.ask("Page.bringToFront");
    for (const type of ["keyDown", "keyUp"]) {
      const pressed = { type, key: name, code: name, windowsVirtualKeyCode: KEY_CODES[name] };
      await this.ask("Input.dispatchKeyEvent", type === "keyDown" && text ? { ...pressed, text } : pressed);
    }
  }

  /** What axe-core finds wrong: rule, and the elements. */
  async accessibility() {
    const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
    await this.ask("Runtime.evaluate", { expression: axe });
    return this.run(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
    });
  }

  /** A window of this size, in this scheme. */
  async resize(width, height, dark = false) {
    const scheme = { name: "prefers-color-scheme", value: dark ? "dark" : "light" };
    await this.ask("Emulation.setEmulatedMedia", { features: [scheme] });
    const size = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.ask("Emulation.setDeviceMetricsOverride", size);
  }

  /** PNG bytes of what a window of this size shows. */
  async picture(width, height, dark = false) {
    await this.resize(width, height, dark);
    return Buffer.from((await this.ask("Page.captureScreenshot", { format: "png" })).data, "base64");
  }
}

/** A server and a browser for the tests of a file, which end with it: `{ server, browser }` once the tests run. */
export function stage(options = { quotas: "open" }, extra = []) {
  const both = {};
  before(async () => {
    both.server = await Server.start(options);
    both.browser = await Browser.launch(extra);
  });
  after(async () => {
    await both.browser?.close();
    await both.server?.stop();
  });
  return both;
}
