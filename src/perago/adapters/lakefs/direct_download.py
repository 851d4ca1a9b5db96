"""Objects straight from the block store, where the server signs addresses for them."""

from __future__ import annotations

from perago.adapters.http.wire import Wire
from perago.adapters.lakefs.addresses import Addresses
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.fetch import Consume, Fetcher
from perago.ports import ObjectEntry

_NO_ADDRESS = "lakeFS gives no address that is good for long enough; perhaps a clock is wrong"


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
        if not self._store.offer().objects:
            return False
        try:
            address = self._address(entry)
            try:
                self._fetcher.fetch_directly(entry, self._store, address, wire, consume)
            except DirectFailed as failure:
                again = self._addresses.of(entry.key, other_than=address) if failure.refused else None
                if again is None:
                    raise
                self._fetcher.fetch_directly(entry, self._store, again, wire, consume)
        except DirectFailed as failure:
            if not wire.is_cut:
                self._store.failed(failure)
            return False
        self._store.worked()
        return True

    def _address(self, entry: ObjectEntry) -> str:
        address = self._addresses.of(entry.key)
        if address is None:
            raise DirectFailed(_NO_ADDRESS, unreachable=True)
        return address
