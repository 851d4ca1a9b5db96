"""`PatientStore`: lakeFS as the commands of an attempt call it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from perago.driver.runtime import Limits, Observer
from perago.ports import (
    AccessDenied,
    Clock,
    Commit,
    Forbidden,
    ObjectEntry,
    ServiceError,
    Unavailable,
    Unclear,
    WorkspaceStore,
)
from perago.retry import Retries, retry

Answer = TypeVar("Answer")


class PatientStore:
    """lakeFS, waited for while it does not answer: a finished function's result is not thrown away for an outage."""

    def __init__(
        self, store: WorkspaceStore, clock: Clock, limits: Limits, observer: Observer, *, until: float
    ) -> None:
        """`until`: when to wait no longer, by `clock`."""
        self.store = store
        self.clock = clock
        self.until = until
        self.limits = limits
        self.observer = observer

    def retry(
        self,
        call: Callable[[], Answer],
        progress: Callable[[], int] = lambda: 0,
        patience: Callable[[ServiceError], float] | None = None,
    ) -> Answer:
        """Return the answer to a call that is harmless to repeat. `progress` and `patience` as in `perago.retry`."""
        tell, retries = self.observer.waiting, Retries(patience or self.patience)
        return retry(call, retries, self.clock, until=self.until, progress=progress, tell=tell)

    def patience(self, error: ServiceError) -> float:
        """A prohibition by lakeFS itself is final; credentials that it does not know may be a proxy's trouble."""
        if isinstance(error, Forbidden):
            return 0.0
        if isinstance(error, AccessDenied):
            return self.limits.answer_patience
        return self.limits.outage_patience if isinstance(error, Unavailable | Unclear) else 0.0

    def get_commit(self, repository: str, ref: str) -> Commit:
        """As the store does."""
        return self.retry(lambda: self.store.get_commit(repository, ref))

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """As the store does."""
        return self.retry(lambda: self.store.diff(repository, left, right))

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """As the store does."""
        return self.retry(lambda: self.store.stat_objects(repository, commit, keys))
