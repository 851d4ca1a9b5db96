"""What a single value must look like. The messages never repeat the value: it may be a secret in the wrong place."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from perago.settings.values import PublishFence

_MOST_THREADS = 256


def url(text: str) -> str:
    """An `http` or `https` address without credentials, query or fragment; trailing slashes are dropped."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("contains white space or control characters; write an address such as http://localhost:8000")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("not a valid address; write one such as http://localhost:8000") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://, such as http://localhost:8000")
    if "@" in parts.netloc:
        raise ValueError(
            "contains a user name or password, and addresses appear in messages and logs; "
            "take it out of the address and use the variables for credentials"
        )
    if not parts.hostname:
        raise ValueError("names no host; write an address such as http://localhost:8000")
    if "?" in text or "#" in text:
        raise ValueError("contains a query or fragment; end the address after its path")
    return text.rstrip("/")


def is_readable_by_others(address: str) -> bool:
    """Whether what is sent to a valid address leaves this machine without encryption."""
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def credential(text: str) -> str:
    """A key or secret as it goes into a header: one line, no blanks around it."""
    if text != text.strip():
        raise ValueError("begins or ends with white space, often a stray line break; remove it")
    if not text.isprintable():
        raise ValueError("contains control characters or line breaks; remove them")
    return text


def directory(text: str) -> Path:
    """An absolute path; `~` is the home directory, a relative path starts at the current directory."""
    if not text.isprintable():
        raise ValueError("contains control characters or line breaks; remove them")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, but there is no such home directory; write an absolute path") from None
    return Path.cwd() / path


def worker_id(text: str) -> str:
    """ASCII letters and digits, taken as they are (docs/design/contract.md 6)."""
    if re.fullmatch(r"[A-Za-z0-9]{1,100}", text) is None:
        raise ValueError("must be up to 100 ASCII letters and digits, such as features1")
    return text


def publish_fence(text: str) -> PublishFence:
    """One of the fence policies."""
    try:
        return PublishFence(text)
    except ValueError:
        renamed = "; `auto` has taken the place of `if-installed`" if text == "if-installed" else ""
        raise ValueError(f"must be auto, required or off{renamed}") from None


def workspaces(text: str) -> tuple[str, ...]:
    """Glob patterns `repository/branch`, separated by commas."""
    patterns = tuple(pattern.strip() for pattern in text.split(","))
    for pattern in patterns:
        repository, slash, branch = pattern.partition("/")
        if not slash or "/" in branch or not repository.strip() or not branch.strip():
            raise ValueError(
                "must be patterns repository/branch, separated by commas; write them like team-*/main,lab/*"
            )
    return patterns


def thread_count(text: str) -> int:
    """A whole number of threads."""
    if re.fullmatch(r"[0-9]{1,4}", text.strip()) is None or not 1 <= int(text) <= _MOST_THREADS:
        raise ValueError(f"must be a whole number from 1 to {_MOST_THREADS}")
    return int(text)
