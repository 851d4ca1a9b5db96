"""Who may call: whoever has the one key pair."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.responses import Response

from perago.embedded.http.faults import Application, Receive, Scope, Send
from perago.embedded.http.lakefs.service import ALIVE
from perago.embedded.http.lakefs.wire import JsonAnswer


class KeyCheck:
    """HTTP Basic with one key pair. The real server looks at the form of a request first; this one at the key."""

    def __init__(self, app: Application, access_key_id: str, secret_access_key: str, *, api: str) -> None:
        self._app = app
        self._credentials = f"{access_key_id}:{secret_access_key}".encode()
        self._open_paths = frozenset({f"{api}/healthcheck", ALIVE})
        self._user = f"{api}/user"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        header = Headers(scope=scope).get("authorization", "")
        if scope["path"] in self._open_paths or self._is_known(header):
            await self._app(scope, receive, send)
        else:
            await self._refusal(scope, header)(scope, receive, send)

    def _refusal(self, scope: Scope, header: str) -> Response:
        if not header and scope["path"] == self._user:
            return JsonAnswer({"user": {"creation_date": 0, "id": ""}})
        if scope["method"] == "HEAD":
            return Response(status_code=401)
        return JsonAnswer({"message": "error authenticating request"}, 401)

    def _is_known(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, self._credentials)
