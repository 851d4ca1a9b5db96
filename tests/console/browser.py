"""A headless Chromium, as an operating system's package provides it, driven through its debugging pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_SECONDS = 60.0
_ABOVE = 10
"""Pipes are kept away from the descriptors 3 and 4, which the browser reads and writes."""


def find_browser() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser process with one open page. Methods fail after a minute."""

    def __init__(self, pid: int, commands: int, answers: int) -> None:
        self._pid = pid
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._number = 0
        self._loads = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        """What the browser said about the page since it was opened: refusals, errors, console output."""

    # ------------------------------------------------------------------ a page

    def open(
        self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False, javascript: bool = True
    ) -> None:
        """Load a page in a fresh tab."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.complaints.clear()
        for domain in ("Page", "Log", "Runtime"):
            self._call(f"{domain}.enable")
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not javascript)
        self._call("Page.navigate", url=url)
        self._await("Page.loadEventFired")

    def close(self) -> None:
        """Close the tab."""
        self._call("Page.close")
        self._session = None

    def html(self) -> str:
        """The document as it is now."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        html: str = self._call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        return html

    def evaluate(self, expression: str) -> Any:
        """The JSON value of an expression, whatever the page's own policy says."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Press a button as a mouse does, and wait for the page that it leads to. It has the focus before, and the page
        leaves a control that has it where it is. What is no button is clicked from within: there no news can move it.
        """
        element = f"document.querySelector({json.dumps(selector)})"
        if not selector.endswith("button"):
            self.evaluate(f"{element}.click()")
            return
        x, y = self.evaluate(
            f"""(() => {{
              const found = {element};
              found.focus();
              found.scrollIntoView({{block: "center", behavior: "instant"}});
              const at = found.getClientRects()[0];
              return [at.x + at.width / 2, at.y + at.height / 2];
            }})()"""
        )
        loads = self._loads  # the page may be there before the click is answered
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        deadline = time.monotonic() + LIMIT_SECONDS
        while self._loads == loads:
            self._next(deadline)

    def wait_for(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until an expression of JavaScript is true; the page is asked for it at every change of the document."""
        is_met = self.evaluate(
            f"""new Promise((done) => {{
              const end = setTimeout(() => done(false), {round(seconds * 1000)});
              const look = () => {{ if ({condition}) {{ clearTimeout(end); done(true); }} }};
              new MutationObserver(look).observe(document, {{subtree: true, childList: true, characterData: true}});
              setInterval(look, 50);
              look();
            }})"""
        )
        assert is_met is True, f"not within {seconds:g} s: {condition}"

    def screenshot(self, path: Path, *, height: float | None = None) -> None:
        """Save a picture of the page, or of its upper `height` pixels."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(size["height"], height or size["height"]),
            "scale": 1,
        }
        answer = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    # ---------------------------------------------------------------- the pipe

    def _call(self, method: str, /, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _await(self, event: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while self._next(deadline).get("method") != event:
            pass

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._answers], [], [], max(0.0, left))
            assert ready, f"the browser said nothing for {LIMIT_SECONDS:g} s"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._buffer += piece
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._loads += message.get("method") == "Page.loadEventFired"
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(message["params"]))
        return message

    def end(self) -> None:
        """End the process."""
        self._session = None
        with contextlib.suppress(AssertionError, OSError):
            self._call("Browser.close")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if os.waitpid(self._pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


@contextlib.contextmanager
def running_browser(executable: str, scratch: Path) -> Iterator[Browser]:
    """A browser with a profile of its own below `scratch`."""
    with contextlib.ExitStack() as stack:
        read_commands, commands = _pipe(stack)
        answers, write_answers = _pipe(stack)
        log = os.open(scratch / "browser.log", os.O_CREAT | os.O_WRONLY, 0o600)
        stack.callback(os.close, log)
        pid = os.posix_spawn(
            executable,
            [executable, *_options(scratch)],
            {**os.environ, "HOME": str(scratch), "XDG_CONFIG_HOME": str(scratch), "XDG_CACHE_HOME": str(scratch)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read_commands, 3),
                (os.POSIX_SPAWN_DUP2, write_answers, 4),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
        )
        browser = Browser(pid, commands, answers)
        try:
            yield browser
        finally:
            browser.end()


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ends = []
    for low in os.pipe():
        ends.append(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
        os.close(low)
        stack.callback(os.close, ends[-1])
    return ends[0], ends[1]


def _options(scratch: Path) -> list[str]:
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--no-first-run",
        f"--user-data-dir={scratch / 'profile'}",
    ]
    return [*options, "--no-sandbox"] if os.geteuid() == 0 else options
