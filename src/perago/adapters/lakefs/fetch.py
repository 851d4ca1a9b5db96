"""Bytes of one object from the server, resumed where an earlier answer broke off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.client import HTTPException
from urllib.parse import quote

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError
from perago.adapters.http.failures import clean, no_answer
from perago.adapters.http.wire import Wire
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.arrival import CHUNK, Range, has_md5
from perago.adapters.lakefs.block_store import STORE, BlockStore, DirectFailed, check_status
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.ports import CorruptTransfer, ObjectEntry

_LONGEST_ERROR = 64 * 1024
_PARTIAL, _NO_SUCH_RANGE = 206, 416


class Fetcher:
    """Reads objects of one commit. By commit id: a read by branch would also look at what is staged."""

    def __init__(self, pool: HttpPool, policy: CallPolicy, repository: str, commit: str) -> None:
        self._pool = pool
        self._policy = policy
        self._repository = repository
        self._target = f"/repositories/{quote(repository, safe='')}/refs/{quote(commit, safe='')}/objects?path="

    def fetch(self, wanted: Range, wire: Wire) -> None:
        """Send one request for what is left of a range. An object that is one range is verified at the end.

        Raises:
            CorruptTransfer: size, MD5 or place of the bytes are wrong. An object that is one range starts anew then.
            Unavailable: no complete answer; what has come stays.
            NotFound, AccessDenied, Refused: by status.
        """
        call = self._call(wanted.arrival.entry)
        target = self._target + quote(wanted.arrival.entry.key)
        try:
            self._exchange(call, wanted, wire, SERVICE, lambda asked: self._pool.open("GET", target, headers=asked))
        except NoAnswerError as failure:
            raise errors.unanswered(call, failure) from failure

    def fetch_directly(self, wanted: Range, store: BlockStore, address: str, wire: Wire) -> None:
        """As `fetch`, from the block store.

        Raises:
            CorruptTransfer: as `fetch`.
            DirectFailed: whatever else the store did instead.
        """
        call = self._call(wanted.arrival.entry)
        try:
            self._exchange(call, wanted, wire, STORE, lambda asked: store.open("GET", address, headers=asked))
        except NoAnswerError as failure:
            raise DirectFailed(failure.text) from failure

    def _call(self, entry: ObjectEntry) -> Call:
        """What a message says of reading an object."""
        return Call(f"read {entry.key!r} of {self._repository}", self._repository, f"object {entry.key!r}")

    def _exchange(
        self,
        call: Call,
        wanted: Range,
        wire: Wire,
        source: str,
        send: Callable[[Mapping[str, str]], BaseHTTPResponse],
    ) -> None:
        if wanted.at > wanted.start and not has_md5(wanted.arrival.entry):
            wanted.arrival.restart()
        expected = wanted.end - wanted.start  # a server may send the whole where the rest of it was asked for
        limit = self._policy.connect + self._policy.answer + expected / self._policy.slowest
        asked = wanted.header
        with wire.exchange(limit):
            response = send({"Range": asked} if asked else {})
            try:
                _check_status(call, response, source, is_partial=asked is not None)
                _receive(call, wanted, response, source)
                response.release_conn()
            except CorruptTransfer:
                response.close()
                if wanted.is_whole:
                    wanted.arrival.restart()
                raise
            except BaseException:
                response.close()
                raise


def _corrupt(call: Call, what: str) -> CorruptTransfer:
    """The error of an object that is not the one of the listing."""
    return CorruptTransfer(SERVICE, call.operation, f"{what}, which is not what the listing says")


def _check_status(call: Call, response: BaseHTTPResponse, source: str, *, is_partial: bool) -> None:
    if response.status == 200 or (is_partial and response.status == _PARTIAL):
        return
    if is_partial and response.status == _NO_SUCH_RANGE:
        raise _corrupt(call, "the server has fewer bytes")
    if source == STORE:
        check_status(response.status, response.headers)
    try:
        body = response.read(_LONGEST_ERROR)
    except (HTTPError, HTTPException, OSError) as error:
        raise no_answer(error) from error
    raise errors.refusal(call, Answer(response.status, response.headers, body))


def _check_head(call: Call, wanted: Range, response: BaseHTTPResponse, source: str) -> None:
    """Whether the bytes that come are those that are missing, as far as their announcement tells."""
    arrival = wanted.arrival
    if response.status == _PARTIAL:
        place = response.headers.get("Content-Range", "no place of its bytes")
        if place != f"bytes {wanted.at}-{wanted.end - 1}/{arrival.entry.size}":
            raise _corrupt(call, f"the server sends {clean(place)}")
    elif wanted.is_whole and wanted.at:
        arrival.restart()
    elif not wanted.is_whole:
        raise _corrupt(call, "the server sends no ranges")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced != str(wanted.left):
        raise _corrupt(call, f"the server sends {clean(announced)} bytes")
    if not arrival.is_version(source, response.headers.get("ETag")):
        raise _corrupt(call, "the object was replaced meanwhile")


def _receive(call: Call, wanted: Range, response: BaseHTTPResponse, source: str) -> None:
    """Take the body in chunks. Asks for one byte more than is missing, which is how an over-long one shows."""
    _check_head(call, wanted, response, source)
    while chunk := _read(response, min(CHUNK, wanted.left + 1)):
        if len(chunk) > wanted.left:
            raise _corrupt(call, f"the server sends more than {wanted.arrival.entry.size} bytes")
        wanted.add(chunk)
    if wanted.left:
        got, size = wanted.at - wanted.start, wanted.end - wanted.start
        raise NoAnswerError(f"the answer was cut off after {got} of {size} bytes", sent=True)
    if wanted.is_whole and (wrong := wanted.arrival.mismatch()):
        raise _corrupt(call, wrong)


def _read(response: BaseHTTPResponse, amount: int) -> bytes:
    try:
        return response.read(amount)
    except (HTTPError, HTTPException, OSError) as error:
        raise no_answer(error) from error
