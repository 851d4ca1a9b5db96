"""Objects straight from the block store, where the server signs addresses for them."""

from __future__ import annotations

from perago.adapters.http.wire import Wire
from perago.adapters.lakefs.addresses import Addresses
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.fetch import Consume, Fetcher
from perago.ports import ObjectEntry

_ASKING = 600.0
"""Seconds for asking lakeFS, in which threads wait for each other; each request has a shorter limit of its own."""


class DirectDownload:
    """The objects of one download."""

    def __init__(self, store: BlockStore, addresses: Addresses, fetcher: Fetcher) -> None:
        self._store = store
        self._addresses = addresses
        self._fetcher = fetcher

    def fetch(self, entry: ObjectEntry, wire: Wire, consume: Consume) -> bool:
        """Hand the object's verified bytes to `consume`; False if they have to come through lakeFS, and start anew.

        An address that the store refuses, perhaps because its time is over, is asked for once more.
        """
        with wire.exchange(_ASKING):
            if not self._store.offer().objects:
                return False
        try:
            address = self._first_address(entry, wire)
            try:
                self._fetcher.fetch_directly(entry, self._store, address, wire, consume)
            except DirectFailed as failure:
                again = self._address(entry, wire, other_than=address) if failure.refused else None
                if again is None:
                    raise
                self._fetcher.fetch_directly(entry, self._store, again, wire, consume)
        except DirectFailed as failure:
            if not wire.is_cut:
                self._store.failed(failure)
            return False
        self._store.worked()
        return True

    def _first_address(self, entry: ObjectEntry, wire: Wire) -> str:
        address = self._address(entry, wire)
        if address is None:
            raise DirectFailed(self._addresses.problem, unreachable=True)
        return address

    def _address(self, entry: ObjectEntry, wire: Wire, *, other_than: str = "") -> str | None:
        with wire.exchange(_ASKING):
            return self._addresses.of(entry.key, other_than=other_than)
