// Shows what changes while a page is open. Without JavaScript the page is complete as it was loaded.
"use strict";

const news = new URL("../news", document.currentScript.src);
const live = document.getElementById("live");
let shown = document.getElementById("main").innerHTML;
let stream = null;
let loading = false;
let missed = false;

const main = () => document.getElementById("main");

function occupied() {
  const selection = document.getSelection();
  const focused = document.activeElement;
  return (selection !== null && !selection.isCollapsed) || (main().contains(focused) && focused.form instanceof HTMLFormElement);
}

function replaceMain(fresh) {
  const current = main();
  const toggled = new Map([...current.querySelectorAll("details[id]")].map((part) => [part.id, part.open]));
  const places = new Map([...current.querySelectorAll("details[id] pre")].map((part) => [part.parentElement.id, part.scrollTop]));
  const focused = document.activeElement;
  const href = current.contains(focused) && focused instanceof HTMLAnchorElement ? focused.href : null;
  current.replaceWith(fresh);
  for (const part of fresh.querySelectorAll("details[id]")) {
    if (toggled.has(part.id)) part.open = toggled.get(part.id);
  }
  for (const part of fresh.querySelectorAll("details[id] pre")) {
    if (!("follow" in part.dataset)) part.scrollTop = places.get(part.parentElement.id) ?? 0;
  }
  followLogs();
  if (href !== null) {
    const again = [...fresh.querySelectorAll("a")].find((link) => link.href === href);
    if (again) again.focus({ preventScroll: true });
  }
}

function followLogs() {
  for (const part of document.querySelectorAll("[data-follow]")) part.scrollTop = part.scrollHeight;
}

async function refresh() {
  if (loading || occupied()) {
    missed = true;
    return;
  }
  loading = true;
  missed = false;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    if (answer.ok && fresh !== null && fresh.innerHTML !== shown && !occupied()) {
      shown = fresh.innerHTML;
      replaceMain(document.importNode(fresh, true));
    }
    if (answer.status === 403) silent();
  } catch {
    silent();
  }
  loading = false;
  if (main().dataset.live !== "true") close();
  else if (missed) refresh();
}

function silent() {
  live.textContent = "The services do not answer; what is shown may be old.";
}

function open() {
  if (stream !== null || document.hidden || main().dataset.live !== "true") return;
  const opened = new EventSource(news);
  stream = opened;
  opened.onopen = () => {
    live.textContent = "";
    refresh();
  };
  opened.onmessage = refresh;
  opened.onerror = () => {
    setTimeout(() => {
      if (stream === opened && opened.readyState !== EventSource.OPEN) silent();
    }, 2000);
    if (opened.readyState === EventSource.CLOSED) {
      setTimeout(() => {
        if (stream === opened) {
          stream = null;
          open();
        }
      }, 5000);
    }
  };
}

function close() {
  if (stream !== null) stream.close();
  stream = null;
}

// A browser has six connections to a server: windows that are not seen give theirs up.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
for (const name of ["selectionchange", "focusout"]) {
  document.addEventListener(name, () => {
    if (missed && !loading) setTimeout(refresh, 0);
  });
}
followLogs();
open();
