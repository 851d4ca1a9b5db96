"""Large files to the block store by signed addresses, and their objects linked to what is there.

lakeFS believes what a link says (`docs/servers/lakefs.md` 8). So the MD5 of what was sent must be both the store's ETag
and what change detection saw, before anything is linked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from perago.adapters.http import Answer, CallPolicy, HttpPool, NoAnswerError
from perago.adapters.lakefs.arrival import new_md5
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.ports import Upload

if TYPE_CHECKING:
    from hashlib import _Hash

DIRECT = 1024 * 1024
"""Bytes from which a file goes to the store: the signed address and the link are two requests, a small file is one."""
PART = 64 * 1024 * 1024
"""Bytes of a part. A larger file is sent in parts, each with an address that is asked for when its turn comes."""
_MOST_PARTS = 10_000
_TYPE = {"Content-Type": "application/octet-stream"}
"""What the addresses are signed for."""

Read = Callable[[int], Iterator[memoryview]]
"""The next so many bytes of the file."""


class ChangedMeanwhile(Exception):
    """The file is not what change detection saw any more."""


class DirectUpload:
    """One file on its way to a branch. Raises `DirectFailed` for all that the store or lakeFS do not do, and leaves
    nothing behind then that is visible."""

    def __init__(
        self, lakefs: HttpPool, store: BlockStore, policy: CallPolicy, branch_path: str, upload: Upload, read: Read
    ) -> None:
        """`branch_path`: the path of the branch in lakeFS's interface. `read` starts at the beginning of the file."""
        self._lakefs = lakefs
        self._store = store
        self._policy = policy
        self._upload = upload
        self._read = read
        self._staging = f"{branch_path}/staging"
        self._path = f"path={quote(upload.key)}"
        self._whole = new_md5()

    def run(self, *, parts: bool) -> Answer:
        """Send the file, as one or, if it is large and the server signs `parts`, in parts; returns lakeFS's answer to
        the link.

        Raises:
            DirectFailed: it did not work.
            ChangedMeanwhile: what was read is not what it should be.
        """
        in_parts = parts and self._upload.size > PART
        address = self._send_parts() if in_parts else self._send_whole()
        link = {
            "staging": address,
            "checksum": self._upload.checksum,
            "size_bytes": self._upload.size,
            "content_type": self._upload.content_type or "application/octet-stream",
            "user_metadata": dict(self._upload.metadata),
        }
        return self._ask("PUT", f"backing?{self._path}", link)

    def _send_whole(self) -> dict[str, Any]:
        address = self._fields(self._ask("GET", f"backing?{self._path}&presign=true"))
        self._put(_text(address, "presigned_url"), self._upload.size, self._whole)
        self._check_whole()
        return address

    def _send_parts(self) -> dict[str, Any]:
        begun = self._fields(self._ask("POST", f"pmpu?{self._path}", {}))
        place = {"physical_address": _text(begun, "physical_address")}
        upload = f"pmpu/{quote(_text(begun, 'upload_id'), safe='')}"
        try:
            sent = self._put_parts(upload, place)
            self._check_whole()
            self._ask("PUT", f"{upload}?{self._path}", {**place, "parts": sent})
        except BaseException:
            self._abort(upload, place)
            raise
        return place

    def _put_parts(self, upload: str, place: dict[str, str]) -> list[dict[str, Any]]:
        size, left = max(PART, -(-self._upload.size // _MOST_PARTS)), self._upload.size
        sent: list[dict[str, Any]] = []
        while left:
            number, length = len(sent) + 1, min(size, left)
            signed = self._fields(self._ask("PUT", f"{upload}/parts/{number}?{self._path}", place))
            sent.append({"part_number": number, "etag": self._put(_text(signed, "presigned_url"), length, new_md5())})
            left -= length
        return sent

    def _put(self, address: str, length: int, digest: _Hash) -> str:
        """Send the next `length` bytes of the file to an address; returns their MD5 (`digest`), the store's ETag."""
        body = self._hashed(length, digest)
        seconds = self._policy.connect + self._policy.answer + length / self._policy.slowest
        headers = {**_TYPE, "Content-Length": str(length)}
        answer = self._store.call("PUT", address, headers=headers, body=body, seconds=seconds)
        etag = answer.headers.get("ETag", "").strip('"')
        if etag != digest.hexdigest():
            raise DirectFailed("the store's ETag is not the MD5 of what was sent", unproven=True)
        return etag

    def _hashed(self, length: int, part: _Hash) -> Iterator[memoryview]:
        for chunk in self._read(length):
            part.update(chunk)
            if part is not self._whole:
                self._whole.update(chunk)
            yield chunk

    def _check_whole(self) -> None:
        if self._whole.hexdigest() != self._upload.checksum:
            raise ChangedMeanwhile

    def _abort(self, upload: str, place: dict[str, str]) -> None:
        """Parts that are never completed cost storage, and nothing shows them."""
        try:
            self._ask("DELETE", f"{upload}?{self._path}", place)
        except DirectFailed:
            return

    def _ask(self, method: str, target: str, content: dict[str, Any] | None = None) -> Answer:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            answer = self._lakefs.call(method, f"{self._staging}/{target}", headers=headers, body=body)
        except NoAnswerError as failure:
            raise DirectFailed(f"lakeFS: {failure.text}") from failure
        if not 200 <= answer.status < 300:
            raise DirectFailed(f"lakeFS answers {answer.status} to {method} {target.partition('?')[0].split('/')[0]}")
        return answer

    def _fields(self, answer: Answer) -> dict[str, Any]:
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DirectFailed("lakeFS's answer has no address")
        return found


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise DirectFailed(f"lakeFS's answer has no {name}")
    return value
