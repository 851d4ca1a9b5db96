// Keeps a page that can still change up to date. Without JavaScript the page is complete as it was loaded.
"use strict";

const live = document.getElementById("live");
let shown = document.getElementById("main").innerHTML;
let failures = 0;

function secondsToWait() {
  const seconds = Number(document.getElementById("main").dataset.refresh);
  return seconds > 0 ? Math.min(30, seconds * 2 ** failures) : 0;
}

function replaceMain(fresh) {
  const current = document.getElementById("main");
  const toggled = new Map([...current.querySelectorAll("details[id]")].map((part) => [part.id, part.open]));
  const focused = document.activeElement;
  const focusedHref = current.contains(focused) && focused instanceof HTMLAnchorElement ? focused.href : null;
  current.replaceWith(fresh);
  for (const part of fresh.querySelectorAll("details[id]")) {
    if (toggled.has(part.id)) part.open = toggled.get(part.id);
  }
  if (focusedHref !== null) {
    const again = [...fresh.querySelectorAll("a")].find((link) => link.href === focusedHref);
    if (again) again.focus({ preventScroll: true });
  }
}

function somebodyReads() {
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed;
}

async function refresh() {
  try {
    if (!document.hidden && !somebodyReads()) {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (answer.status === 403) throw new Error("another server is there now");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (answer.ok && fresh !== null && fresh.innerHTML !== shown) {
        shown = fresh.innerHTML;
        replaceMain(document.importNode(fresh, true));
      }
    }
    failures = 0;
    live.textContent = "";
  } catch {
    failures += 1;
    live.textContent = "The services do not answer; what is shown may be old.";
  }
  schedule();
}

function schedule() {
  const seconds = secondsToWait();
  if (seconds > 0) setTimeout(refresh, seconds * 1000);
}

schedule();
