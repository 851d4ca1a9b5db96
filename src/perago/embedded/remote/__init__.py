"""A store of this process, served to slot processes over a private Unix socket.

Only the port's methods are served. Files do not travel: both processes are on one machine, so the server reads and
writes the paths that the client names. The layout of a download and its progress are called back in the client.
Errors arrive as what they are.
"""

from __future__ import annotations

from perago.embedded.remote.client import RemoteStore, StoreFactory
from perago.embedded.remote.server import StoreServer

__all__ = ["RemoteStore", "StoreFactory", "StoreServer"]
