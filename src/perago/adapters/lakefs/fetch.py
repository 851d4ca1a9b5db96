"""One object from the server, verified while it streams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError
from perago.adapters.http.failures import no_answer
from perago.adapters.http.wire import Wire
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed, check_status
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.ports import CorruptTransfer, ObjectEntry

if TYPE_CHECKING:
    from hashlib import _Hash


CHUNK = 1024 * 1024
EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_MD5 = re.compile(r"[0-9a-f]{32}")
_LONGEST_ERROR = 64 * 1024


class Consume(Protocol):
    """Takes an object's bytes; what they end with (an exception or nothing) says whether they are right."""

    def __call__(self, chunks: Iterator[bytes], /) -> None: ...


class Fetcher:
    """Reads objects of one commit. By commit id: a read by branch would also look at what is staged."""

    def __init__(self, pool: HttpPool, policy: CallPolicy, repository: str, commit: str) -> None:
        self._pool = pool
        self._policy = policy
        self._repository = repository
        self._target = f"/repositories/{quote(repository, safe='')}/refs/{quote(commit, safe='')}/objects?path="

    def fetch(self, entry: ObjectEntry, wire: Wire, consume: Consume) -> None:
        """Send one request and hand its verified bytes to `consume`.

        Raises:
            CorruptTransfer: size or MD5 differ from the listing.
            Unavailable: no complete answer.
            NotFound, AccessDenied, Refused: by status.
        """
        call = Call(f"read {entry.key!r} of {self._repository}", self._repository, f"object {entry.key!r}")
        try:
            with wire.exchange(self._limit(entry)):
                response = self._pool.open("GET", self._target + quote(entry.key))
                try:
                    _check_status(call, response)
                    consume(_verified(call, entry, response))
                    response.release_conn()
                except BaseException:
                    response.close()
                    raise
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure

    def fetch_directly(self, entry: ObjectEntry, store: BlockStore, address: str, wire: Wire, consume: Consume) -> None:
        """Read the object from the block store, and hand its verified bytes to `consume`.

        Raises:
            DirectFailed: whatever the store did instead.
        """
        call = Call(f"read {entry.key!r} of {self._repository}", self._repository, f"object {entry.key!r}")
        try:
            with wire.exchange(self._limit(entry)):
                response = store.open("GET", address)
                try:
                    check_status(response.status)
                    consume(_verified(call, entry, response))
                    response.release_conn()
                except BaseException:
                    response.close()
                    raise
        except NoAnswerError as failure:
            raise DirectFailed(failure.text) from failure
        except CorruptTransfer as error:
            raise DirectFailed(error.detail) from error

    def _limit(self, entry: ObjectEntry) -> float:
        return self._policy.connect + self._policy.answer + entry.size / self._policy.slowest


def _check_status(call: Call, response: BaseHTTPResponse) -> None:
    if response.status == 200:
        return
    try:
        body = response.read(_LONGEST_ERROR)
    except (HTTPError, HTTPException, OSError) as error:
        raise no_answer(error) from error
    raise errors.refusal(call, Answer(response.status, response.headers, body))


def _verified(call: Call, entry: ObjectEntry, response: BaseHTTPResponse) -> Iterator[bytes]:
    """The body in chunks. Asks for one byte more than the listing promises, which is how an over-long one shows."""
    announced = response.headers.get("Content-Length")
    if announced is not None and announced != str(entry.size):
        raise _corrupt(call, f"the server sends {announced} bytes")
    digest = new_md5()
    received = 0
    while chunk := _read(response, min(CHUNK, entry.size + 1 - received)):
        received += len(chunk)
        if received > entry.size:
            raise _corrupt(call, f"the server sends more than {entry.size} bytes")
        digest.update(chunk)
        yield chunk
    if received != entry.size:
        raise NoAnswerError(f"the answer was cut off after {received} of {entry.size} bytes", sent=True)
    if _is_md5(entry.checksum) and digest.hexdigest() != entry.checksum:
        raise _corrupt(call, f"the MD5 of what came is {digest.hexdigest()}")


def _read(response: BaseHTTPResponse, amount: int) -> bytes:
    try:
        return response.read(amount)
    except (HTTPError, HTTPException, OSError) as error:
        raise no_answer(error) from error


def _corrupt(call: Call, what: str) -> CorruptTransfer:
    return CorruptTransfer(SERVICE, call.operation, f"{what}, which is not what the listing says")


def _is_md5(checksum: str) -> bool:
    """Whether a listed checksum is an MD5; an imported object may carry any ETag instead."""
    return _MD5.fullmatch(checksum) is not None


def new_md5() -> _Hash:
    """A hash that works where MD5 is banned for security: here it guards against accidents only."""
    return hashlib.md5(usedforsecurity=False)
