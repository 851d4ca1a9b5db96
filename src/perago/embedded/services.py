"""Both embedded services, in real time, on one port of this machine or for workers of this process only.

`EmbeddedServices` is what `perago dev`, `perago run` and `perago demo` use, and tests that want real HTTP. HTTP needs
the extra `embedded`; the models do not.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import SecretStr

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.model import MAX_WAIT_SECONDS
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.lakefs.values import KeyPair
from perago.failure import Failure
from perago.settings import ConductorSettings, LakeFSSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from perago.clients import Client, Configuration
    from perago.embedded.remote import StoreServer

SWEEP_SECONDS = 0.5
"""Seconds between two checks for timeouts."""
SHORT_POLL = 0.1
"""Seconds of a poll of workers in this process: a person who runs one workflow must not wait for its end."""


_PACKAGES = ("starlette", "uvicorn", "jinja2")
"""The packages of the extra `embedded`."""


def require_embedded(command: str) -> None:
    """Raise a Failure unless the extra `embedded` is installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        message = f"perago {command} serves over HTTP, but {' and '.join(missing)} cannot be found"
        raise Failure(message, f"pip install {' '.join(missing)}")


@dataclass(kw_only=True, eq=False, repr=False)
class EmbeddedServices:
    """An in-memory Conductor and lakeFS in real time, served on 127.0.0.1 from entering the context to leaving it.

    Without `over_http`, only workers of this process reach them: the Conductor as an object, the lakeFS by `store`.

    `conductor` and `lakefs` are the models, which can be used at any time. With the directory `state`, everything is
    persisted there. `on_problem` is called from another thread if that fails. A poll waits for at most `longest_poll`
    seconds. `page` makes the application for the root, for example `perago.console.console_of`, when it is first asked
    for.
    """

    held: socket.socket | None = None
    page: Callable[[EmbeddedServices], ASGIApp] | None = None
    state: Path | None = None
    on_problem: Callable[[str], None] = lambda _: None
    longest_poll: float = MAX_WAIT_SECONDS
    over_http: bool = True
    clock: SystemClock = field(default_factory=SystemClock, init=False)
    keys: KeyPair = field(default_factory=KeyPair.random, init=False)
    """The credentials that lakeFS accepts. With a state, those of the state."""
    url: str = field(default="", init=False)
    """The address of the page, the token included; set while the context is entered."""
    store: StoreServer | None = field(default=None, init=False)
    """The private socket of lakeFS; set while the context is entered without HTTP."""
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _changed: list[Callable[[], None]] = field(default_factory=list, init=False)
    _stopping: list[Callable[[], None]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.conductor: InMemoryConductor = InMemoryConductor(self.clock)
        self.conductor.longest_poll = self.longest_poll
        self.conductor.on_change = self.changed
        self.lakefs: InMemoryLakeFS = InMemoryLakeFS(self.clock)

    @classmethod
    def for_workers(cls, *, over_http: bool = False) -> Self:
        """Make services for workers of this process, whose end need not wait for a long poll."""
        return cls(longest_poll=SHORT_POLL, over_http=over_http)

    def watch(self, changed: Callable[[], None], stopping: Callable[[], None]) -> None:
        """Call `changed` whenever anything may have changed, and `stopping` before the server stops. Both are called by
        any thread, must be quick and must not call the services."""
        self._changed.append(changed)
        self._stopping.append(stopping)

    def changed(self) -> None:
        """Notify all watchers of a change."""
        for notify in self._changed:
            notify()

    @property
    def conductor_url(self) -> str:
        """Conductor's address, `/api` included."""
        return f"{self.url}/api"

    @property
    def lakefs_url(self) -> str:
        """lakeFS's address."""
        return self.url.removesuffix(f"/{self.keys.token}")

    @property
    def conductor_configuration(self) -> Configuration:
        """conductor-python's configuration for the Conductor. It needs the extra `sdk`."""
        from perago.clients import configuration_of

        return configuration_of(ConductorSettings(self.conductor_url))

    @property
    def lakefs_client(self) -> Client:
        """A `lakefs.Client` for the lakeFS. It needs the extra `sdk`."""
        from perago.clients import client_of

        secret = SecretStr(self.keys.secret_access_key)
        return client_of(LakeFSSettings(self.lakefs_url, self.keys.access_key_id, secret))

    def environment(self) -> Mapping[str, str]:
        """Return the variables that connect perago commands, lakectl and the lakeFS SDK to these services."""
        return {
            "CONDUCTOR_SERVER_URL": self.conductor_url,
            "LAKECTL_SERVER_ENDPOINT_URL": self.lakefs_url,
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": self.keys.access_key_id,
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": self.keys.secret_access_key,
        }

    def __enter__(self) -> Self:
        """Serve.

        Raises:
            OSError: the port is taken.
            TimeoutError: the server did not start within 20 s.
            StateError: the state cannot be used.
        """
        with ExitStack() as stack:
            stack.callback(self.lakefs.close)
            if self.state is not None:
                from perago.embedded.persistence import persisted

                state = persisted(self.state, self.conductor, self.lakefs.server, self.keys, self.on_problem)
                self.keys = stack.enter_context(state)
            stack.enter_context(_swept(self.conductor, SWEEP_SECONDS, self.on_problem))
            if self.over_http:
                self._serve(stack)
            else:
                from perago.embedded.remote import StoreServer

                self.store = stack.enter_context(StoreServer(self.lakefs))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _serve(self, stack: ExitStack) -> None:
        from perago.embedded.http.loopback import bound, serve

        held = self.held or bound()
        # The page reads the services at this URL, and may be asked for as soon as the server answers.
        self.url = f"http://127.0.0.1:{held.getsockname()[1]}/{self.keys.token}"
        stack.enter_context(serve(self._app(), held=held))
        stack.callback(self.conductor.end_waits)
        stack.callback(lambda: [notify() for notify in self._stopping])

    def _app(self) -> ASGIApp:
        """Return the application of both services, which tests extend."""
        from perago.embedded.http.loopback import embedded_app

        page = None if self.page is None else partial(self.page, self)
        return embedded_app(self.conductor, self.lakefs.server, keys=self.keys, changed=self.changed, page=page)


@contextmanager
def _swept(conductor: InMemoryConductor, seconds: float, on_problem: Callable[[str], None]) -> Iterator[None]:
    """Check for timeouts continuously, as Conductor's sweeper does, even without calls of clients."""
    stopped = threading.Event()

    def run() -> None:
        problem = ""
        while not stopped.wait(seconds):
            try:
                conductor.sweep()
            except Exception as error:  # noqa: BLE001 - nothing that a client sends may end the thread
                if repr(error) != problem:
                    problem = repr(error)
                    on_problem(f"looking for timeouts failed, and is tried again: {problem}")

    thread = threading.Thread(target=run, name="perago-sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
