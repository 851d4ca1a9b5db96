"""Reaching the servers: before a worker starts, and for commands that ask lakeFS one question.

An unreachable service fails at the start, not in each task.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from perago.cli import messages
from perago.failure import Failure
from perago.ports import AccessDenied, Clock, ServiceError, Unavailable
from perago.processes import end_if_told
from perago.retry import RESTARTS
from perago.settings import LakeFSSettings

if TYPE_CHECKING:
    from perago.adapters.lakefs import LakeFSStore
    from perago.cache import ObjectCache

T = TypeVar("T")

HEALTH_LIMIT = 5.0
"""Seconds for lakeFS to say that it is healthy."""
_PING_LIMIT = 90.0
"""Seconds; the adapter's own limits are shorter."""
_LOOK = 1.0
"""Seconds between two looks whether a signal has come."""


@dataclass(frozen=True, slots=True)
class OpenLakeFS:
    """Makes a connection to lakeFS in whatever process calls it; picklable, so that slots can be handed one."""

    settings: LakeFSSettings
    threads: int
    cache: ObjectCache | None = None

    def __call__(self) -> LakeFSStore:
        from perago.adapters.lakefs import LakeFSStore

        return LakeFSStore(self.settings, threads=self.threads, cache=self.cache)


def lakefs_problem(settings: LakeFSSettings) -> str | None:
    """Ask lakeFS, without credentials, whether it is healthy; returns why it does not answer."""
    from perago.adapters.http import CallPolicy, HttpPool, NoAnswerError

    base = settings.endpoint_url.removesuffix("/api/v1")
    policy = CallPolicy(connect=HEALTH_LIMIT, answer=HEALTH_LIMIT)
    pool = HttpPool("lakeFS", f"{base}/api/v1", headers={}, size=1, policy=policy)
    try:
        answer = pool.call("GET", "/healthcheck")
    except NoAnswerError as error:
        return f"lakeFS does not answer: {error}"
    finally:
        pool.close()
    return None if answer.status < 500 else f"lakeFS answers with status {answer.status}"


def reach(ask: Callable[[], T], *, wait: bool, clock: Clock) -> T:
    """The answer to `ask`. With `wait`, ask again until the service is there and lets us in.

    A signal ends that, even if what its handler raised was lost.

    Raises:
        ServiceError: without `wait`, that it is not; always, that it gave an answer which waiting cannot mend.
    """
    tries = 0
    said = ""
    while True:
        try:
            return ask()
        except (Unavailable, AccessDenied) as error:
            if not wait:
                raise
            end_if_told()
            pause = RESTARTS.pause(tries)
            if (words := messages.service_words(error)) != said:
                said = words
                messages.warning(f"{said}; trying again, at most every {RESTARTS.longest:g} seconds")
            while pause > 0:
                clock.sleep(min(pause, _LOOK))
                end_if_told()
                pause -= _LOOK
            tries += 1


def ping_lakefs(open_store: OpenLakeFS) -> None:
    """Find out whether lakeFS answers and lets us in, in a process that is gone afterwards.

    A supervisor never speaks to lakeFS again, so it need not carry the SDK (20 MB) for the rest of its life.

    Raises:
        ServiceError: it does not.
        ForkServerDied: the process could not be started.
    """
    from perago.worker.processes import start_process

    context: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_ping, args=(open_store, writer), daemon=True)
    start_process(process)
    writer.close()
    try:
        error = reader.recv() if reader.poll(_PING_LIMIT) else _no_answer("no answer in time")
    except EOFError:
        error = _no_answer("the process that asked is gone")
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error


def _ping(open_store: OpenLakeFS, writer: Connection) -> None:
    answer = None
    try:
        with contextlib.closing(open_store()) as store:
            store.ping()
    except ServiceError as error:
        answer = error
    with contextlib.suppress(BrokenPipeError):  # the process that asked has been told to stop meanwhile
        writer.send(answer)


def _no_answer(detail: str) -> ServiceError:
    return Unavailable("lakeFS", "answer", detail)


@contextlib.contextmanager
def store_of(repository: str, branch: str) -> Iterator[LakeFSStore]:
    """Open the configured lakeFS for questions about this branch.

    Raises:
        Failure: a question inside showed that there is no such branch.
    """
    from perago.configuration import Servers
    from perago.ports import NotFound
    from perago.settings import load_settings

    settings = load_settings()
    with Servers(settings) as servers:
        try:
            yield servers.store
        except NotFound as error:
            shown = settings.require_lakefs().shown
            message = f"{shown} has no branch {branch} in a repository {repository}: {error.detail}"
            raise Failure(message, "check both names, and that the address is the right one") from error


def branch_head(repository: str, branch: str) -> str:
    """Return the commit that a branch of the configured lakeFS points at now.

    Raises:
        Failure: there is no such branch.
    """
    with store_of(repository, branch) as store:
        return store.get_commit(repository, branch).id
