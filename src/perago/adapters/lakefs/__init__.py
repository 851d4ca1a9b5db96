"""`WorkspaceStore` on lakeFS's REST API, with object bytes on parallel keep-alive connections."""

from perago.adapters.lakefs.browsing import LakeFSBrowser
from perago.adapters.lakefs.store import LakeFSStore

__all__ = ["LakeFSBrowser", "LakeFSStore"]
