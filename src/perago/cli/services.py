"""Reach the configured servers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from perago.cli import messages
from perago.failure import Failure
from perago.ports import AccessDenied, Clock, ServiceError, Unavailable
from perago.processes import raise_pending_signal
from perago.retry import RESTARTS, CheckedClock, Retries, retry

if TYPE_CHECKING:
    from perago.adapters.lakefs import LakeFSStore
    from perago.settings import LakeFSSettings

T = TypeVar("T")

HEALTH_LIMIT = 5.0
"""Seconds for lakeFS to answer whether it is healthy."""


def lakefs_problem(settings: LakeFSSettings) -> str | None:
    """Ask lakeFS, without credentials, whether it is healthy. Return why it does not answer."""
    from perago.adapters.http import CallPolicy, HttpPool
    from perago.adapters.http_answers import NoAnswerError

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
    """Return the answer of `ask`. With `wait`, ask again until the service answers and accepts the credentials.

    Raises:
        ServiceError: the service gave an answer that does not change; without `wait`, any other problem as well.
    """
    reported = ""

    def warn(error: ServiceError) -> None:
        nonlocal reported
        raise_pending_signal()
        if (problem := messages.service_words(error)) != reported:
            reported = problem
            messages.warning(f"{problem}; trying again, at most every {RESTARTS.longest:g} seconds")

    passing = (Unavailable, AccessDenied)
    retries = Retries(lambda error: math.inf if wait and isinstance(error, passing) else 0.0, RESTARTS)
    # `raise_pending_signal` finds a signal even if its exception was lost
    return retry(ask, retries, CheckedClock(clock, raise_pending_signal), notice=warn)


@contextmanager
def store_of(repository: str, branch: str) -> Iterator[LakeFSStore]:
    """Open the configured lakeFS for questions about a branch.

    Raises:
        Failure: a question in the block showed that the branch does not exist.
    """
    from perago.configuration import Servers
    from perago.ports import NotFound

    with Servers() as servers:
        try:
            yield servers.store
        except NotFound as error:
            lakefs = servers.settings.require_lakefs().shown
            message = f"{lakefs} has no branch {branch} in {repository}: {error.detail}"
            raise Failure(message, "check both names and LAKECTL_SERVER_ENDPOINT_URL") from error


def branch_head(repository: str, branch: str) -> str:
    """Return the head of a branch of the configured lakeFS.

    Raises:
        Failure: the branch does not exist.
    """
    with store_of(repository, branch) as store:
        return store.get_commit(repository, branch).id


def resolved_commit(repository: str, expression: str) -> str:
    """Return the id of the commit that lakeFS finds by an expression such as `main~1`.

    Raises:
        Failure: lakeFS finds no such commit.
    """
    from perago.configuration import Servers
    from perago.ports import NotFound

    with Servers() as servers:
        try:
            return servers.store.resolve(repository, expression).id
        except NotFound as error:
            message = f"{servers.settings.require_lakefs().shown} finds no commit {expression} in {repository}"
            raise Failure(f"{message}: {error.detail}", f"list the commits: perago log {repository}/BRANCH") from error
