"""A form that is uploaded piece by piece: finds the part called `content` without holding it in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.parser import BytesHeaderParser
from enum import Enum, auto

from perago.embedded.lakefs.errors import Invalid, LakeFSError

_NAME = re.compile(r'(?:^|;)\s*name="?([^";]*)"?', re.IGNORECASE)
_FIELD = "content"
_HEADERS_END = b"\r\n\r\n"


class _State(Enum):
    PREAMBLE = auto()
    """Before a boundary: text before the first one, or the content of a part that is not wanted."""
    BOUNDARY = auto()
    """Right behind a boundary: two dashes end the form."""
    HEADERS = auto()
    CONTENT = auto()
    DONE = auto()
    """The wanted part has ended; what follows is not looked at."""
    END = auto()
    """The form has ended without the wanted part."""


class FormReader:
    """Takes a form's bytes as they come and passes on those of the first part named `content`."""

    def __init__(self, boundary: str, write: Callable[[bytes], None]) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("latin-1")
        self._write = write
        self._buffer = b"\r\n"  # the first boundary may stand at the very start
        self._state = _State.PREAMBLE
        self.content_type = ""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._buffer += piece
        while self._step():
            pass

    def problem(self) -> LakeFSError | None:
        """What lakeFS says about a form that ends here, with 400 if in the middle; None if it had the wanted part."""
        if self._state is _State.DONE:
            return None
        if self._state is _State.END:
            return LakeFSError("multipart upload missing key 'content': http: no such file")
        if self._state is _State.CONTENT:
            return Invalid("unexpected EOF\nfailed to write to storage")
        return LakeFSError("multipart: NextPart: EOF")

    def _step(self) -> bool:
        """Take one step; whether there may be another one with the bytes at hand."""
        match self._state:
            case _State.PREAMBLE | _State.CONTENT:
                return self._until_delimiter()
            case _State.BOUNDARY:
                return self._after_delimiter()
            case _State.HEADERS:
                return self._headers()
            case _:
                self._buffer = b""
                return False

    def _until_delimiter(self) -> bool:
        at = self._buffer.find(self._delimiter)
        wanted = self._state is _State.CONTENT
        end = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if wanted and end:
            self._write(self._buffer[:end])
        if at < 0:
            self._buffer = self._buffer[end:]
            return False
        self._buffer = self._buffer[at + len(self._delimiter) :]
        self._state = _State.DONE if wanted else _State.BOUNDARY
        return True

    def _after_delimiter(self) -> bool:
        if self._buffer[:2] == b"--":
            self._state = _State.END
            return True
        line_end = self._buffer.find(b"\r\n")
        if line_end < 0:
            return False
        # The line break stays: a part without headers begins with two of them.
        self._buffer = self._buffer[line_end:]
        self._state = _State.HEADERS
        return True

    def _headers(self) -> bool:
        end = self._buffer.find(_HEADERS_END)
        if end < 0:
            return False
        headers = BytesHeaderParser().parsebytes(self._buffer[:end].lstrip())
        self._buffer = self._buffer[end + len(_HEADERS_END) :]
        name = _NAME.search(headers.get("content-disposition", ""))
        if name is not None and name[1] == _FIELD:
            self.content_type = headers.get("content-type", "")
            self._state = _State.CONTENT
        else:
            self._state = _State.PREAMBLE
        return True
