"""The local page: what the embedded services hold, readable in any browser, with JavaScript or without.

Server-rendered, read-only, nothing external. Everything that comes from payloads, keys, logs and commits is taken for
hostile: it is escaped, made visible and cut before a template sees it.
"""

from perago.embedded.http.page.app import page_app

__all__ = ["page_app"]
