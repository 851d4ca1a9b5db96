"""Signed addresses of objects: many with one request, asked for when they are needed."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from os.path import commonprefix
from typing import Any
from urllib.parse import quote, urlencode

from perago.adapters.http import HttpPool, NoAnswerError
from perago.adapters.lakefs.listing import PAGE
from perago.ports import ObjectEntry

FEW = 20
"""So many objects or less are asked for one by one: a page of a large tree may hold none of the others."""
_NOT_GOOD = "lakeFS gives no address that is good for long enough; perhaps a clock is wrong"
_SPARE = 20.0
"""Seconds before its end at which an address is not used any more."""


class Addresses:
    """The signed addresses of some objects of one commit. `of` may be called by several threads, and raises nothing:
    without an address an object comes through lakeFS, which then says what is wrong."""

    def __init__(self, pool: HttpPool, repository: str, commit: str, wanted: Sequence[ObjectEntry]) -> None:
        self._pool = pool
        self._objects = f"/repositories/{quote(repository, safe='')}/refs/{quote(commit, safe='')}/objects"
        self._keys = sorted(entry.key for entry in wanted)  # code points are in the order of their UTF-8
        self._wanted = frozenset(self._keys)
        self._shared = commonprefix(self._keys[:1] + self._keys[-1:])  # noqa: RUF071 - a prefix of characters
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._silent = False
        self.problem = _NOT_GOOD
        """Why an address is missing."""

    def of(self, key: str, *, other_than: str = "") -> str | None:
        """The address of an object; None where the server gives none.

        Args:
            key: the object.
            other_than: an address that did not work.
        """
        if len(self._keys) <= FEW or key not in self._wanted:  # such as one whose copy in the cache is damaged
            return self._of_one(key, other_than)
        with self._lock:
            if self._fresh(key) in (None, other_than):
                self._ask_page(self._first_beside(key))
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
        return address if address and time.time() < end - _SPARE else None

    def _first_beside(self, key: str) -> str:
        """Where the page begins that has `key`, if all objects between are wanted: so threads that come in any order
        ask for each page once."""
        place = bisect_left(self._keys, key)
        return self._keys[place - place % PAGE]

    def _ask_page(self, first: str) -> None:
        query = {"prefix": self._shared, "after": just_before(first), "amount": str(PAGE), "presign": "true"}
        found = self._ask("ls", query).get("results")
        for item in found if isinstance(found, list) else []:
            if isinstance(item, dict):
                self._known[str(item.get("path"))] = _address(item)

    def _ask(self, what: str, query: dict[str, str]) -> dict[str, Any]:
        if self._silent:  # the other threads have waited for it, too
            return {}
        try:
            answer = self._pool.call("GET", f"{self._objects}/{what}?{urlencode(query, quote_via=quote)}")
            found = json.loads(answer.body) if answer.status == 200 else {}
        except NoAnswerError as failure:
            self._silent, self.problem = True, f"lakeFS, asked for addresses: {failure.text}"
            return {}
        except ValueError:
            return {}
        if answer.status != 200:
            self.problem = f"lakeFS answers {answer.status} when it is asked for addresses"
        return found if isinstance(found, dict) else {}


def _address(item: dict[str, Any]) -> tuple[str, float]:
    """A signed address and when it ends; an empty one where there is none, or where it is not signed."""
    address, end = item.get("physical_address"), item.get("physical_address_expiry")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        return "", 0.0
    return address, float(end) if isinstance(end, int | float) else time.time() + 2 * _SPARE


def just_before(key: str) -> str:
    """A text that stands before `key` in the order of UTF-8, and after nearly everything else that does."""
    last = ord(key[-1]) - 1
    if 0xD800 <= last <= 0xDFFF:
        last = 0xD7FF
    return key[:-1] if last < 0 else f"{key[:-1]}{chr(last)}\U0010ffff"
