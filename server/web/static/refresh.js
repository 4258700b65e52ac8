// Keeps a page fresh: asks for it again and exchanges its live parts. Without this file the page
// is the same, only as old as when it was loaded. It stops while nobody looks, when somebody says
// so, and after an hour; after a failure it asks less often.
"use strict";

const OFTEN_MS = 10_000, SOON_MS = 2_000, RARELY_MS = 60_000, LONGEST_MS = 3_600_000;
const button = document.getElementById("refresh-switch");
const state = document.getElementById("refresh-state");
const began = Date.now();
let isOn = true, failures = 0, timer = 0;

function delay() {
  if (failures) return Math.min(OFTEN_MS * 2 ** failures, RARELY_MS);
  return document.querySelector("[data-soon]") ? SOON_MS : OFTEN_MS;
}

function exchange(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const found = fresh.getElementById(old.id);
    // What has the focus stays: it would be lost.
    if (!found || old.contains(document.activeElement) || old.outerHTML === found.outerHTML) continue;
    // In place, or a screen reader would not notice the news.
    old.className = found.className;
    old.toggleAttribute("data-soon", found.hasAttribute("data-soon"));
    old.replaceChildren(...document.importNode(found, true).childNodes);
  }
}

async function refresh() {
  try {
    const response = await fetch(location.href, { cache: "no-cache", signal: AbortSignal.timeout(10_000) });
    // 503 is a page of ours as well: it says what is wrong.
    if (!response.headers.get("content-type")?.startsWith("text/html")) throw new Error(response.status);
    exchange(new DOMParser().parseFromString(await response.text(), "text/html"));
    if (failures) state.textContent = "";
    failures = response.ok ? 0 : failures + 1;
  } catch {
    failures += 1;
    state.textContent = "Could not be refreshed; trying again.";
  }
}

async function turn() {
  if (Date.now() - began > LONGEST_MS) return stop();
  if (!document.hidden) await refresh();
  if (isOn) timer = setTimeout(turn, delay());
}

function start() {
  isOn = true;
  button.textContent = "Stop refreshing";
  state.textContent = "";
  timer = setTimeout(turn, delay());
}

function stop() {
  isOn = false;
  clearTimeout(timer);
  button.textContent = "Refresh again";
  state.textContent = "This page stands still.";
}

if (button) {
  button.hidden = false;
  button.addEventListener("click", () => (isOn ? stop() : start()));
  start();
}
