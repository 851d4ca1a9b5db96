"""A model of lakeFS 1.84 that runs in this process.

`InMemoryLakeFS` is the port an attempt works with; its `server` speaks lakeFS's own operations. The behavior is that
of `docs/dev/servers/lakefs.md`; what is not modeled raises `NotModelled` and names the call. Where the real server's
three-way merge loses files, the model gives the right answer and warns with `ServerDivergence`.
"""

from __future__ import annotations

from perago.embedded.lakefs.repository import LakeFSServer
from perago.embedded.lakefs.store import InMemoryLakeFS
from perago.embedded.lakefs.values import ActionNotRun, LakeFSError, NotModelled, ServerDivergence

__all__ = ["ActionNotRun", "InMemoryLakeFS", "LakeFSError", "LakeFSServer", "NotModelled", "ServerDivergence"]
