"""Objects straight from the block store, where the server signs addresses for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from perago.adapters.http.wire import Wire
from perago.adapters.lakefs.addresses import Addresses
from perago.adapters.lakefs.arrival import Range, has_md5
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.fetch import Fetcher
from perago.adapters.lakefs.transfer_pool import TransferPool
from perago.ports import CorruptTransfer

_ASKING = 600.0
"""Seconds for asking lakeFS, in which threads wait for each other; each request has a shorter limit of its own."""
_BREAKS = 3
"""How often a connection may break within one range, each time after some bytes, before the rest comes through
lakeFS."""


class DirectDownload:
    """The objects of one download."""

    def __init__(self, store: BlockStore, find_out: Callable[[], Addresses], fetcher: Fetcher) -> None:
        """`find_out`: what addresses are needed. Called once, if the server signs any."""
        self._store = store
        self._find_out = find_out
        self._found: Addresses | None = None
        self._finding_out = threading.Lock()
        self._fetcher = fetcher
        self.objections: dict[str, CorruptTransfer] = {}
        """What the store's own answers have shown to be wrong with objects that have not come since, by key."""

    def fetch(self, wanted: Range, workers: TransferPool[Any]) -> bool:
        """Fill a range; False if the rest has to come through lakeFS.

        An address that the store refuses, perhaps because it has expired, is asked for once more. An object without
        an MD5 comes through lakeFS where an attacker on that connection could have changed its address.
        """
        if not (self._store.encrypted or has_md5(wanted.arrival.entry)):
            return False
        with workers.wire.exchange(_ASKING):
            if not self._store.offer().objects:
                return False
        try:
            self._fetch(wanted, workers.wire)
        except CorruptTransfer as error:
            self.objections[wanted.arrival.entry.key] = error
            workers.direct_failed(self._store, DirectFailed(error.detail))
            return False
        except DirectFailed as failure:
            workers.direct_failed(self._store, failure)
            return False
        self._store.worked()
        return True

    def _fetch(self, wanted: Range, wire: Wire) -> None:
        key, used, breaks = wanted.arrival.entry.key, "", 0
        while True:
            before = wanted.at
            address = self._address(key, wire, other_than=used)
            try:
                self._fetcher.fetch_directly(wanted, self._store, address, wire)
            except DirectFailed as failure:
                if failure.refused and not used:
                    used = address
                elif wanted.at > before and breaks < _BREAKS:
                    breaks += 1
                else:
                    raise
            else:
                return

    def _address(self, key: str, wire: Wire, *, other_than: str) -> str:
        with wire.exchange(_ASKING):
            addresses = self._addresses()
            address = addresses.of(key, other_than=other_than)
        if address is None:
            raise DirectFailed(addresses.problem, unreachable=True)
        return address

    def _addresses(self) -> Addresses:
        with self._finding_out:
            if self._found is None:
                self._found = self._find_out()
            return self._found
