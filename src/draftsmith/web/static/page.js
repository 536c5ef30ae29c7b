// Keeps an open page up to date: when the server says that something changed, the same page is asked for again and its
// parts are put in place. What is typed and where the keyboard stands is kept.
"use strict";

async function refresh() {
  const before = document.activeElement;
  if (before && ["INPUT", "SELECT"].includes(before.tagName) && before.closest("main")) return; // someone is typing
  const answer = await fetch(location.href, { headers: { "x-part": "main" }, credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const old = document.querySelector("main");
  if (!fresh || !old) return;
  const open = [...old.querySelectorAll("details[open]")].map((part) => part.id);
  const focus = before && before.id;
  old.replaceChildren(...fresh.childNodes);
  for (const id of open) if (id && document.getElementById(id)) document.getElementById(id).open = true;
  if (focus && document.getElementById(focus)) document.getElementById(focus).focus({ preventScroll: true });
}

const live = document.getElementById("live");
const source = new EventSource("/events");
let waiting = false;
source.addEventListener("open", () => { live.textContent = "live"; });
source.addEventListener("error", () => { live.textContent = "not live: the server does not answer"; });
source.addEventListener("changed", async () => {
  if (waiting) return;
  waiting = true;
  try { await refresh(); } finally { waiting = false; }
});
