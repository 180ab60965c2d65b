// A queue in the hands of a page: it follows the queue, and posts to it, by a pre-signed URL.
// The page's own server makes the URL (`POST /v2/queues/{queue}/share`); the page needs no token.

const AGAIN_MS = 3000;

export class SignedQueue {
  #url;
  #share;
  #client;

  /**
   * @param {string} service The service's address, such as https://mq.example.org.
   * @param {object} share The answer of `POST …/share`: {project, paths, methods, expires, signature}.
   * @param {string} client The page's Client-ID, a UUID.
   */
  constructor(service, share, client) {
    this.#url = queueUrl(service, share);
    this.#share = share;
    this.#client = client;
  }

  /** Post messages with these bodies; their ids. */
  async post(...bodies) {
    const answer = await fetch(this.#url, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Client-ID": this.#client,
        "X-Project-ID": this.#share.project,
        "URL-Signature": this.#share.signature,
        "URL-Paths": this.#share.paths.join(","),
        "URL-Methods": this.#share.methods.join(","),
        "URL-Expires": this.#share.expires,
      },
      body: JSON.stringify({ messages: bodies.map((body) => ({ body })) }),
    });
    const document = await answer.json();
    if (!answer.ok) throw new Error(`${document.title}: ${document.description}`);
    return document.resources.map((href) => href.split("/").pop());
  }

  /**
   * Follow the queue, also over restarts of the service and losses of the network, without a gap.
   *
   * @param {(message: object) => void} onMessage Is given {id, href, ttl, age, body}, the oldest message first.
   * @param {(reason: string) => void} onEnd Is told why there will be no more.
   * @param {{marker?: string}} options `marker`: begin behind this message.
   * @returns {() => void} Ends it.
   */
  follow(onMessage, onEnd, { marker } = {}) {
    let source;
    let timer;
    let last = marker;
    const stop = () => {
      clearTimeout(timer);
      source?.close();
    };
    const open = () => {
      source = new EventSource(this.#streamUrl(last));
      source.onmessage = (event) => {
        last = event.lastEventId || last;
        onMessage(JSON.parse(event.data));
      };
      source.addEventListener("end", (event) => {
        stop();
        onEnd(JSON.parse(event.data).description ?? "The right to read the queue has ended");
      });
      source.onerror = () => {
        // A browser reconnects by itself after a lost connection, but not after an answer such as 503.
        if (source.readyState !== EventSource.CLOSED) return;
        if (this.#hasExpired()) onEnd("The pre-signed URL has expired");
        else timer = setTimeout(open, AGAIN_MS);
      };
    };
    open();
    return stop;
  }

  // An EventSource can set no headers, so its query has the credentials. Keep this address out of links and logs.
  #streamUrl(marker) {
    const url = new URL(this.#url);
    url.search = new URLSearchParams({
      echo: "true",
      client_id: this.#client,
      ...credentials(this.#share),
      ...(marker && { marker }),
    });
    return url;
  }

  #hasExpired() {
    return new Date(`${this.#share.expires}Z`) <= new Date();
  }
}

/** The address of the queue's messages. */
export function queueUrl(service, share) {
  return new URL(share.paths.find((each) => each.endsWith("/messages")), service);
}

/** The share as parameters of a query. */
export function credentials(share) {
  return {
    project_id: share.project,
    url_signature: share.signature,
    url_paths: share.paths.join(","),
    url_methods: share.methods.join(","),
    url_expires: share.expires,
  };
}

/** A new UUID; `crypto.randomUUID` is there on https and localhost only. */
export function newClient() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
