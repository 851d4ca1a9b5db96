"""The block store behind lakeFS, and the signed addresses that the server gives out (`docs/dev/servers/lakefs.md`,
"Presigned transfers").

The block store is only a faster path. After any failure here, the bytes go through lakeFS instead.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os.path import commonprefix
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from urllib3.response import BaseHTTPResponse

from perago.adapters.http import Answer, Body, HttpPool, overloaded
from perago.adapters.http_answers import NoAnswerError
from perago.adapters.http_connections import AddressCheck
from perago.adapters.lakefs.session import PAGE, LakeFSSession, just_before, path_in, with_query
from perago.ports import ObjectEntry, Overloaded, Refused
from perago.retry import BackOff

STORE = "the block store"
CONNECT_SECONDS = 5.0
"""The longest wait for a connection. Many stores can be reached only by their lakeFS, and a firewall drops other
connections silently."""
SUSPENSIONS = BackOff(30.0, 900.0)
"""Seconds for which the store is not used after failures; longer after each round."""
UNPROVEN_SECONDS = 900.0
"""Seconds without uploads after the store did not prove the accepted bytes."""
MOST_FAILURES = 3
"""Failures in a row, before the store is not used for a while."""
SILENT_SECONDS = 60.0
"""Seconds for which the server's configuration is not read again after a call without an answer."""
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_ENDS_IN_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""A prefix of IPv6 addresses that contain an IPv4 address at one of four places (RFC 6052)."""
_LOCAL_NAT64_BYTES = ((6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15))
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16")))
"""Addresses at which virtual machines of AWS, Google, Alibaba and Azure get credentials, in addition to link-local
ones."""
_UNPROVEN = (
    "Large files are published through lakeFS, not directly to its block store, because the store's ETag is not the "
    "MD5 of the sent bytes. Some encryptions of buckets cause this. perago tries the store again after "
    f"{UNPROVEN_SECONDS / 60:.0f} minutes. The data is correct; only the transfer is slower."
)


@dataclass(eq=False)
class DirectFailed(Exception):
    """A failure of the block store. The message says which."""

    message: str
    refused: bool = False
    """The store did not accept the address, and may accept a new one."""
    unreachable: bool = False
    """The store cannot be reached."""
    unproven: bool = False
    """The store accepted bytes, but does not prove that they are correct."""
    overload: Overloaded | None = None
    """The error with which the store asks the client to wait, or None."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Offer:
    """The transfers that the server signs addresses for."""

    objects: bool = False
    parts: bool = False
    """Whether it also signs addresses for the parts of a large upload."""


class BlockStore:
    """Connections to the block store, without credentials of lakeFS, and the state of the store."""

    def __init__(self, lakefs: LakeFSSession, size: int) -> None:
        """`size`: connections to keep for re-use."""
        self._lakefs = lakefs
        self.encrypted: bool = lakefs.base_url.startswith("https:")
        """Whether the connection to lakeFS protects the signed addresses from changes. If so, the bytes must not travel
        unencrypted either."""
        self._policy = replace(lakefs.policy, connect=min(lakefs.policy.connect, CONNECT_SECONDS))
        self._size = size
        self._lock = threading.Lock()
        self._offer: Offer | None = None
        self._pools: dict[str, HttpPool] = {}
        self._failures = self._suspensions = 0
        self._suspended_until = self._no_uploads_until = 0.0
        self._notes: list[str] = []

    def offer(self) -> Offer:
        """Whether the store can be used now. The server's configuration is read once."""
        with self._lock:
            if time.monotonic() < self._suspended_until:
                return Offer()
            if self._offer is None:
                self._offer = self._read_offer()
            if self._offer is None:  # the other threads wait here, and each would wait for its own answer
                self._suspended_until = time.monotonic() + SILENT_SECONDS
            return self._offer or Offer()

    def open(
        self, method: str, address: str, *, headers: Mapping[str, str | bytes] | None = None, body: Body = None
    ) -> BaseHTTPResponse:
        """Send a request to a signed address. The caller reads the answer completely or closes it.

        Raises:
            DirectFailed: the address cannot be used, or no answer arrived.
        """
        pool, target = self._reach(address)
        try:
            return pool.open(method, target, headers=headers, body=body)
        except NoAnswerError as failure:
            raise DirectFailed(failure.text, unreachable=not failure.sent) from failure

    def call(
        self, method: str, address: str, *, headers: Mapping[str, str | bytes], body: Body, seconds: float
    ) -> Answer:
        """Send a request to a signed address and return its complete answer, which is 200.

        Raises:
            DirectFailed: as `open`, or it is not.
        """
        pool, target = self._reach(address)
        try:
            answer = pool.call(method, target, headers=headers, body=body, lasting=seconds)
        except NoAnswerError as failure:
            raise DirectFailed(failure.text, unreachable=not failure.sent) from failure
        check_status(answer.status, answer.headers)
        return answer

    def worked(self) -> None:
        """Note that a transfer has succeeded."""
        with self._lock:
            self._failures = self._suspensions = 0

    @property
    def takes_uploads(self) -> bool:
        """Whether uploads to the store are worth a call."""
        return time.monotonic() >= self._no_uploads_until

    def failed(self, failure: DirectFailed) -> None:
        """Note a failure. After some failures the store is not used for a while, and a note says so."""
        with self._lock:
            if failure.unproven:
                if self.takes_uploads:
                    self._notes.append(_UNPROVEN)
                self._no_uploads_until = time.monotonic() + UNPROVEN_SECONDS
                return
            self._failures += 1
            if not failure.unreachable and self._failures < MOST_FAILURES:
                return
            if time.monotonic() < self._suspended_until:
                return  # another thread has met the same
            pause = SUSPENSIONS.pause(self._suspensions)
            self._failures, self._suspended_until = 0, time.monotonic() + pause
            self._suspensions += 1
            if self._suspensions == 1:
                self._notes.append(
                    f"Objects go through lakeFS, not directly to its block store ({failure}). perago tries direct "
                    f"transfers again after {pause:.0f} seconds, then at longer intervals. If this machine cannot "
                    "reach the store, the data is correct; only the transfer is slower."
                )

    def take_notes(self) -> tuple[str, ...]:
        """Return messages for the log, without repetitions."""
        with self._lock:
            notes, self._notes = tuple(self._notes), []
        return notes

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.close()

    def _read_offer(self) -> Offer | None:
        """Read the configuration of the server. None: there is no answer, so ask again later."""
        try:
            answer = self._lakefs.pool.call("GET", "/config")
        except NoAnswerError:
            return None
        try:
            storage = json.loads(answer.body)["storage_config"] if answer.status == 200 else {}
            signs = storage.get("pre_sign_support") is True
            return Offer(signs, signs and storage.get("pre_sign_multipart_upload") is True)
        except (ValueError, TypeError, KeyError, AttributeError):
            return Offer()

    def _reach(self, address: str) -> tuple[HttpPool, str]:
        """Return the connections to the server of an address, and the target of the request. Messages never contain the
        address, because it is as good as a password."""
        try:
            parts = urlsplit(address)
            origin = f"{parts.scheme}://{parts.netloc}"
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise DirectFailed("lakeFS gave an address that is neither http nor https", unreachable=True)
            if self.encrypted and parts.scheme != "https":
                raise DirectFailed("its address is plain http, and lakeFS is reached by https", unreachable=True)
            with self._lock:
                pool = self._pools.get(origin)
            if pool is None:
                check, policy = self._check_of(parts.hostname), self._policy
                fresh = HttpPool(STORE, origin, headers={}, size=self._size, policy=policy, check_address=check)
                with self._lock:
                    pool = self._pools.setdefault(origin, fresh)
        except (ValueError, Refused) as error:
            raise DirectFailed("lakeFS gave an address that cannot be used", unreachable=True) from error
        return pool, parts._replace(scheme="", netloc="", fragment="").geturl()

    def _check_of(self, host: str) -> AddressCheck:
        """Check a host, and return the check for each connection to it, because a name can resolve to another address
        later. The store can be on this machine only if lakeFS is.

        Raises:
            DirectFailed: the host resolves to an address that must not be used, or does not resolve.
        """
        is_local = _is_local_host(urlsplit(self._lakefs.base_url).hostname or "")
        check = partial(unsafe_address, lakefs_is_local=is_local)
        for address in _addresses_of(host):
            if objection := check(address):
                raise DirectFailed(objection, unreachable=True)
        return check


def unsafe_address(text: str, *, lakefs_is_local: bool) -> str | None:
    """Return the reason why nothing may be sent to the IP address of a signed address, or None.

    lakeFS, or an attacker on the connection to it, could make perago call services that trust this machine, such as
    local ones and the metadata service of a virtual machine.

    Args:
        text: the address.
        lakefs_is_local: lakeFS itself is on this machine.
    """
    addresses = _equivalent_addresses(text)
    if any(address.is_link_local for address in addresses):
        return "its address is link-local, where no block store is"
    if not _METADATA.isdisjoint(addresses):
        return "its address is the metadata service of a cloud, which hands out credentials"
    if any(address.is_multicast for address in addresses):
        return "its address is for multicast, where no block store is"
    if any(map(_is_this_machine, addresses)) and not lakefs_is_local:
        return "its address is on this machine, and lakeFS is not"
    return None


def _equivalent_addresses(text: str) -> set[_Address]:
    """Return an IP address and the IPv4 addresses that an IPv6 address can hold."""
    address = ipaddress.ip_address(text)
    addresses: set[_Address] = {address}
    if isinstance(address, ipaddress.IPv6Address):
        places = [(12, 13, 14, 15)] if any(address in network for network in _ENDS_IN_IPV4) else []
        places += _LOCAL_NAT64_BYTES if address in _LOCAL_NAT64 else ()
        inner = [ipaddress.IPv4Address(bytes(address.packed[index] for index in place)) for place in places]
        addresses.update(address for address in inner if not address.is_unspecified)  # these bytes are not the address
        addresses.update(address.teredo or ())
        addresses.update((address.sixtofour,) if address.sixtofour else ())
    return addresses


def _is_this_machine(address: _Address) -> bool:
    return address.is_loopback or address.is_unspecified


def _is_local_host(host: str) -> bool:
    try:
        return all(any(map(_is_this_machine, _equivalent_addresses(address))) for address in _addresses_of(host))
    except DirectFailed:
        return False


def _addresses_of(host: str) -> set[str]:
    """Return the IP addresses of a host.

    Raises:
        DirectFailed: the name does not resolve.
    """
    try:
        return {str(record[4][0]) for record in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise DirectFailed("the name of its host does not resolve", unreachable=True) from error


def check_status(status: int, headers: Mapping[str, str]) -> None:
    """Refuse an answer that is not 200. S3 answers 403 for an expired address, and also for a wrong clock.

    Raises:
        DirectFailed: it is not.
    """
    if status == 200:
        return
    is_overloaded = status in (429, 503)
    overload = overloaded(STORE, "reach it", f"it answers {status}", status, headers) if is_overloaded else None
    raise DirectFailed(f"the store answers {status}", refused=status in (400, 401, 403), overload=overload)


MOST_SINGLE_REQUESTS = 20
"""Up to this number, objects are requested one by one, because a page of a large tree can contain few of them."""
_EXPIRES_TOO_EARLY = "lakeFS gives no address that is valid long enough; compare the clocks of both machines"
_EXPIRY_MARGIN = 20.0
"""Seconds before its expiry from which an address is no longer used."""


class Addresses:
    """The signed addresses of some objects of one commit. Several threads can call `of`, which never raises an
    exception. An object without an address is downloaded through lakeFS, whose answer names the problem."""

    def __init__(self, pool: HttpPool, repository: str, commit: str, entries: Sequence[ObjectEntry]) -> None:
        self._pool = pool
        self._objects = path_in(repository, "refs", commit, "objects")
        self._keys = sorted(entry.key for entry in entries)  # code points are in the order of their UTF-8
        self._requested = frozenset(self._keys)
        self._shared = commonprefix(self._keys[:1] + self._keys[-1:])  # noqa: RUF071 - a prefix of characters
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._unanswered = False
        self.problem: str = _EXPIRES_TOO_EARLY
        """The reason why an address is missing."""

    def of(self, key: str, *, other_than: str = "") -> str | None:
        """Return the address of an object; None if the server gives none.

        Args:
            key: the object.
            other_than: an address that failed.
        """
        # A key that was not requested is one whose copy in the cache is damaged.
        if len(self._keys) <= MOST_SINGLE_REQUESTS or key not in self._requested:
            return self._of_one(key, other_than)
        with self._lock:
            if self._fresh(key) in (None, other_than):
                # From where the page begins that has `key`, if all objects between are wanted: threads that come in
                # any order so ask for each page once.
                place = bisect_left(self._keys, key)
                self._ask_page(self._keys[place - place % PAGE])
            if self._fresh(key) in (None, other_than):  # others, which are not wanted, fill that page
                self._ask_page(key)
            return self._fresh(key)

    def _of_one(self, key: str, other_than: str) -> str | None:
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # the threads that fetch ranges of one object want the same address
            if self._fresh(key) in (None, other_than):
                self._known[key] = _address(self._ask("stat", {"path": key, "presign": "true"}))
            return self._fresh(key)

    def _fresh(self, key: str) -> str | None:
        address, end = self._known.get(key, ("", 0.0))
        return address if address and time.time() < end - _EXPIRY_MARGIN else None

    def _ask_page(self, first: str) -> None:
        query = {"prefix": self._shared, "after": just_before(first), "amount": str(PAGE), "presign": "true"}
        page = self._ask("ls", query).get("results")
        for row in page if isinstance(page, list) else []:
            if isinstance(row, dict):
                self._known[str(row.get("path"))] = _address(row)

    def _ask(self, what: str, query: dict[str, str]) -> dict[str, Any]:
        if self._unanswered:  # the other threads have waited for it, too
            return {}
        try:
            answer = self._pool.call("GET", with_query(f"{self._objects}/{what}", query))
            content = json.loads(answer.body) if answer.status == 200 else {}
        except NoAnswerError as failure:
            self._unanswered, self.problem = True, f"lakeFS, asked for addresses: {failure.text}"
            return {}
        except ValueError:
            return {}
        if answer.status != 200:
            self.problem = f"lakeFS answers {answer.status} when it is asked for addresses"
        return content if isinstance(content, dict) else {}


def _address(row: dict[str, Any]) -> tuple[str, float]:
    """Return a signed address and when it expires; empty if the answer has no signed address."""
    address, end = row.get("physical_address"), row.get("physical_address_expiry")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        return "", 0.0
    return address, float(end) if isinstance(end, int | float) else time.time() + 2 * _EXPIRY_MARGIN
