"""The asking side: the port, spoken over a connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from typing import Any, cast

from perago.embedded.remote.messages import Call, Kind
from perago.ports import Commit, Layout, Placement, Progress, Staged, Unavailable, Unclear, Upload, no_progress

ANSWER_SECONDS = 120.0
"""How long a client waits for the next message of a call."""

_UNCLEAR = frozenset({"commit", "merge", "revert"})  # repeating any other operation is harmless


@dataclass(frozen=True, slots=True)
class StoreFactory:
    """Makes clients of one server. Picklable: hand it to a slot process and call it there."""

    address: str
    key: bytes

    def __call__(self) -> RemoteStore:
        return RemoteStore(self)

    def __repr__(self) -> str:
        return f"StoreFactory({self.address!r})"


class _ConnectionLostError(Exception):
    """No usable answer came back."""


class RemoteStore:
    """`perago.ports.WorkspaceStore` in another process. Connects on first use, and anew after a fork.

    One call at a time; further threads wait. A lost connection is `Unclear` for a commit or merge, `Unavailable`
    otherwise, and the next call connects again.
    """

    def __init__(self, factory: StoreFactory) -> None:
        self._factory = factory
        self._connection: Connection[Any, Any] | None = None
        self._process = 0
        self._lock = threading.Lock()

    def get_commit(self, repository: str, ref: str) -> Commit:
        """See the port."""
        return cast("Commit", self._call("get_commit", repository, ref))

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """See the port."""
        return cast("tuple[Commit, ...]", self._call("history", repository, branch, until=until, limit=limit))

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """See the port."""
        return cast("bool", self._call("has_uncommitted_changes", repository, branch))

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """See the port."""
        return cast("int | None", self._call("newest_staged", repository, branch))

    def download(
        self,
        repository: str,
        commit: str,
        prefix: str,
        layout: Layout,
        on_progress: Progress = no_progress,
    ) -> Sequence[Placement]:
        """See the port."""
        answer = self._call("download", repository, commit, prefix, on_done=on_progress, layout=layout)
        return cast("Sequence[Placement]", answer)

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """See the port."""
        self._call("create_branch", repository, branch, source)

    def upload(self, repository: str, branch: str, uploads: Sequence[Upload], on_staged: Staged | None = None) -> None:
        """See the port."""
        self._call("upload", repository, branch, list(uploads), on_done=on_staged)

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """See the port."""
        self._call("delete_objects", repository, branch, list(keys))

    def commit(self, repository: str, branch: str, message: str, metadata: Mapping[str, str]) -> Commit:
        """See the port."""
        return cast("Commit", self._call("commit", repository, branch, message, dict(metadata)))

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
        within: float | None = None,
    ) -> str:
        """See the port."""
        arguments = (repository, source, branch, message, dict(metadata))
        return cast("str", self._call("merge", *arguments, allow_empty=allow_empty, within=within))

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """See the port."""
        self._call("revert", repository, branch, commit)

    def changed_keys(self, repository: str, left: str, right: str) -> frozenset[str]:
        """See the port."""
        return cast("frozenset[str]", self._call("changed_keys", repository, left, right))

    def checksum(self, repository: str, commit: str, key: str) -> str | None:
        """See the port."""
        return cast("str | None", self._call("checksum", repository, commit, key))

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """See the port."""
        return cast("tuple[str, ...]", self._call("list_branches", repository, prefix))

    def delete_branch(self, repository: str, branch: str) -> None:
        """See the port."""
        self._call("delete_branch", repository, branch)

    def close(self) -> None:
        """Give the connection back. The served store stays open: it is not ours."""
        with self._lock:
            self._disconnect()

    # ---------------------------------------------------------------- internals

    def _call(
        self,
        operation: str,
        *arguments: object,
        on_done: Progress | Staged | None = None,
        layout: Layout | None = None,
        **options: object,
    ) -> object:
        call = Call(operation, arguments, options, watched=on_done not in (None, no_progress))
        with self._lock:
            try:
                kind, payload = self._converse(call, layout, on_done)
            except _ConnectionLostError as error:
                self._disconnect()
                lost = Unclear if operation in _UNCLEAR else Unavailable
                raise lost("lakeFS", operation, f"the process that serves the embedded store: {error}") from error
            except BaseException:
                self._disconnect()  # in the middle of a conversation nobody can go on with
                raise
        if kind is Kind.ERROR:
            raise cast("Exception", payload)
        return payload

    def _converse(self, call: Call, layout: Layout | None, on_done: Callable[..., object] | None) -> tuple[Kind, Any]:
        """Send a call and serve the server's questions until its outcome arrives."""
        connection = self._connect()
        _send(connection, call)
        while True:
            kind, payload = _receive(connection)
            if kind is Kind.PROGRESS and on_done is not None:
                on_done(*payload)
            elif kind is Kind.LAYOUT and layout is not None:
                _answer_layout(connection, layout, payload)
            else:
                return kind, payload

    def _connect(self) -> Connection[Any, Any]:
        if self._connection is None or self._process != os.getpid():
            try:
                self._connection = Client(self._factory.address, "AF_UNIX", authkey=self._factory.key)
            except (OSError, EOFError) as error:
                raise _ConnectionLostError(f"no connection to {self._factory.address}: {error}") from error
            self._process = os.getpid()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None


def _answer_layout(connection: Connection[Any, Any], layout: Layout, entries: Sequence[Any]) -> None:
    try:
        placements = list(layout(entries))
    except BaseException:
        with suppress(_ConnectionLostError):
            _send(connection, None)
        raise
    _send(connection, placements)


def _send(connection: Connection[Any, Any], message: object) -> None:
    try:
        connection.send(message)
    except (OSError, EOFError) as error:
        raise _ConnectionLostError(f"connection lost: {error}") from error


def _receive(connection: Connection[Any, Any]) -> tuple[Kind, Any]:
    try:
        if not connection.poll(ANSWER_SECONDS):
            raise _ConnectionLostError(f"no answer within {ANSWER_SECONDS:g} s")
        return cast("tuple[Kind, Any]", connection.recv())
    except (OSError, EOFError) as error:
        raise _ConnectionLostError(f"connection lost: {error or 'closed'}") from error
