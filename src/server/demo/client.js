// A small chat client: one room, one connection at a time, a fresh token for each.
//
// A lost connection and an ERROR 401 (the session is over) lead to a new one; a clean close is final: that is
// how the server ends a kicked viewer, and what the official SDKs do.

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10_000;

export class Client {
  #fetchTicket;
  #told;
  #socket = null;
  #timer = 0;
  #retryMs = RETRY_MS_MIN;
  // RequestIds come back to everybody in the room: these are ours alone.
  #prefix = Math.random().toString(36).slice(2);
  #serial = 0;
  // RequestId of each request without an answer: the request, and when it was sent.
  #asked = new Map();

  /**
   * `fetchTicket()` resolves to `{ token, url }` or throws, an error that is `final` if asking again is in vain.
   * `told` has the functions `state(name, detail, waitMs?)`, `message(frame, roundTripMs?)`, `event(frame)`,
   * `answered(frame)` and `refused(frame, request?)`. The states are connecting, connected, waiting and closed.
   */
  constructor(fetchTicket, told) {
    this.#fetchTicket = fetchTicket;
    this.#told = told;
  }

  async connect() {
    this.#drop();
    this.#told.state("connecting", "Connecting…");
    const attempt = (this.#socket = {});
    let ticket;
    try {
      ticket = await this.#fetchTicket();
    } catch (error) {
      if (this.#socket !== attempt) return;
      if (error.final) this.#end(error.message);
      else this.#retry(error.message);
      return;
    }
    if (this.#socket !== attempt) return;
    const socket = new WebSocket(ticket.url, ticket.token);
    this.#socket = socket;
    // What a replaced socket still has to say concerns nobody.
    const ours = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = ours(() => {
      this.#retryMs = RETRY_MS_MIN;
      this.#told.state("connected", "Connected");
    });
    socket.onmessage = ours(({ data }) => this.#receive(JSON.parse(data)));
    socket.onclose = ours(({ code, reason, wasClean }) => {
      if (wasClean || code === 1000) {
        this.#end(reason ? `Disconnected: ${reason}` : "Disconnected");
      } else {
        this.#retry("Connection lost.");
      }
    });
  }

  /** Ends the connection for good. */
  leave() {
    this.#drop();
  }

  say(content) {
    this.#publish({ Action: "SEND_MESSAGE", Content: content });
  }

  /** A command: nobody else gets it. The room's answer goes to `told.answered(frame)`. */
  command(verb, attributes, content) {
    this.#publish({ Action: "SEND_MESSAGE", Content: content, Attributes: { "uproar:do": verb, ...attributes } });
  }

  delete(id, reason) {
    this.#publish({ Action: "DELETE_MESSAGE", Id: id, Reason: reason });
  }

  kick(user, reason) {
    this.#publish({ Action: "DISCONNECT_USER", UserId: user, Reason: reason });
  }

  #publish(request) {
    const id = `${this.#prefix}-${++this.#serial}`;
    this.#asked.set(id, { request, at: performance.now() });
    this.#socket.send(JSON.stringify({ ...request, RequestId: id }));
  }

  #receive(frame) {
    const asked = this.#asked.get(frame.RequestId);
    this.#asked.delete(frame.RequestId);
    if (asked && frame.Attributes?.["uproar:private"]) {
      this.#told.answered(frame);
    } else if (frame.Type === "MESSAGE") {
      this.#told.message(frame, asked && performance.now() - asked.at);
    } else if (frame.Type === "EVENT") {
      this.#told.event(frame);
    } else if (frame.Type === "ERROR") {
      this.#told.refused(frame, asked?.request);
      if (frame.ErrorCode === 401) this.connect();
    }
  }

  #end(why) {
    this.#drop();
    this.#told.state("closed", why);
  }

  #retry(why) {
    this.#drop();
    const ms = this.#retryMs * (0.5 + Math.random());
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX);
    this.#told.state("waiting", why, ms);
    this.#timer = setTimeout(() => this.connect(), ms);
  }

  // Forgets the connection, whatever its state.
  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    this.#asked.clear();
    if (socket instanceof WebSocket) socket.close(1000);
  }
}
