// What the server says of the room, twice a second.

import { ask, byId, count } from "/demo/dom.js";
import { limits } from "/demo/viewer.js";

const ASK_MS = 500;

/** Asks again and again. `told(room)` gets the answer; `query()` names a storm to keep alive. */
export function watch(told, query) {
  const look = async () => {
    try {
      const room = await ask(`/demo/room${query()}`);
      if (room.name) {
        Object.assign(limits, { characters: room.characters, messages_per_second: room.messages_per_second });
        document.title = `#${room.name} · Uproar`;
      }
      byId("room-name").textContent = room.name ?? "the room is gone";
      const [number, word] = count(room.viewers, "viewer").split(" ");
      byId("room-viewers").textContent = number;
      byId("room-word").textContent = ` ${word}`;
      told(room);
    } catch {
      byId("room-viewers").textContent = "server not reachable";
      byId("room-word").textContent = "";
      told(null);
    }
    setTimeout(look, ASK_MS);
  };
  look();
}
