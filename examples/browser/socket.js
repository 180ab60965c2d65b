// The same queue over a WebSocket: one connection posts, and gets what is posted.
// The share must cover `subscriptions` and `messages` for POST: `{"paths": ["messages", "subscriptions"], "methods": ["POST"]}`.

import { credentials, queueUrl } from "./queue.js";

const AGAIN_MS = 2000;
const EXPIRED = 4003;

export class SocketQueue {
  #share;
  #client;
  #queue;
  #url;
  #socket;
  #waiting = []; // The requests that are not answered yet: answers come in their order.
  #stopped = false;

  /** As that of `SignedQueue`. */
  constructor(service, share, client) {
    const messages = queueUrl(service, share);
    const [before, queue] = messages.pathname.match(/^(.*\/v2)\/queues\/([^/]+)\/messages$/).slice(1);
    this.#share = share;
    this.#client = client;
    this.#queue = queue;
    this.#url = new URL(before, messages);
    this.#url.protocol = messages.protocol === "https:" ? "wss:" : "ws:";
    this.#url.search = new URLSearchParams(credentials(share));
  }

  /** Post messages with these bodies, once the queue is followed; their ids. */
  async post(...bodies) {
    const answer = await this.#ask("message_post", { messages: bodies.map((body) => ({ body })) });
    return answer.message_ids;
  }

  /** As that of `SignedQueue`. The messages that come begin now; one may come twice after an interruption. */
  follow(onMessage, onEnd) {
    const open = () => {
      const socket = (this.#socket = new WebSocket(this.#url));
      socket.onopen = () => this.#ask("subscription_create", {}).catch((error) => onEnd(error.message));
      socket.onmessage = (event) => {
        const frame = JSON.parse(event.data);
        if (frame.request) this.#waiting.shift()?.(frame);
        else onMessage(frame);
      };
      socket.onclose = (event) => {
        for (const answer of this.#waiting.splice(0)) answer({ headers: { status: 0 }, body: { error: "The connection was lost" } });
        if (this.#stopped) return;
        if (event.code === EXPIRED) onEnd("The pre-signed URL has expired");
        // The service keeps what comes meanwhile for this client, for half a minute.
        else setTimeout(open, AGAIN_MS);
      };
    };
    open();
    return () => {
      this.#stopped = true;
      this.#socket.close();
    };
  }

  #ask(action, body) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new Error("Not connected"));
        return;
      }
      this.#waiting.push(({ headers, body: answer }) =>
        headers.status >= 200 && headers.status < 300
          ? resolve(answer)
          : reject(new Error(answer.exception ?? answer.error ?? answer)),
      );
      const named = { "Client-ID": this.#client, "X-Project-ID": this.#share.project };
      this.#socket.send(JSON.stringify({ action, headers: named, body: { queue_name: this.#queue, ...body } }));
    });
  }
}
