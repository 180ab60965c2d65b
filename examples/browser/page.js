import { SignedQueue, newClient } from "./queue.js";
import { SocketQueue } from "./socket.js";

const $ = (id) => document.getElementById(id);
let queue;
let stop = () => {};

function say(text) {
  $("state").textContent = text;
}

function show(message) {
  const item = document.createElement("li");
  item.textContent = JSON.stringify(message.body);
  $("messages").append(item);
}

function follow() {
  stop();
  $("messages").replaceChildren();
  const Queue = $("over").value === "websocket" ? SocketQueue : SignedQueue;
  queue = new Queue($("service").value, JSON.parse($("share").value), newClient());
  stop = queue.follow(show, say);
  say("following");
}

async function post() {
  await queue.post($("body").value);
  $("body").value = "";
}

for (const [form, act] of [["open", follow], ["post", post]]) {
  $(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await act();
    } catch (error) {
      say(error.message);
    }
  });
}
