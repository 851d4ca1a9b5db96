"""The canonical form of the paths that authors declare: relative, POSIX, without `.` and `..`
(docs/design/contract.md 2)."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import PureWindowsPath

_DRIVE = re.compile(r"[A-Za-z]:")
_METADATA_DIRECTORY = "_lakefs_actions"


def canonical_path(path: object) -> str:
    """`./raw//a.csv` is `raw/a.csv`, and so is `PureWindowsPath("raw") / "a.csv"`.

    Raises:
        ValueError: the path is not a relative path inside the workspace; the message says which rule it breaks.
    """
    text = _posix_text(path)
    if not text:
        raise ValueError("the path is empty")
    categories = set(map(unicodedata.category, text))
    if "Cc" in categories:
        raise ValueError(f"{text!r} contains a control character")
    if "Cs" in categories:
        raise ValueError(f"{text!r} contains half of a surrogate pair, which has no UTF-8 form")
    if _DRIVE.match(text):
        raise ValueError(f"{text!r} names a drive; write it relative to the workspace")
    if text.startswith("/") and text.strip("/"):
        raise ValueError(f"{text!r} is absolute; write it relative to the workspace: {text.lstrip('/')!r}")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{text!r} contains '..', which could leave the workspace")
    if not parts:
        raise ValueError(f"{text!r} is empty after normalising: it names the workspace itself, not something in it")
    return "/".join(parts)


def canonical_pattern(pattern: object) -> str:
    """Like `canonical_path`, for a glob; `**` must be a whole component."""
    text = canonical_path(pattern)
    glued = next((part for part in text.split("/") if "**" in part and part != "**"), None)
    if glued is not None:
        advice = "/".join(("**", re.sub(r"\*{2,}", "*", glued)))
        raise ValueError(f"{text!r}: '**' must be a whole path component; write {advice!r} in place of {glued!r}")
    return text


def canonical_prefix(prefix: object) -> str:
    """The part of the repository that a task sees as its root: `""` for `/`, otherwise like `audio/render`.

    Raises:
        ValueError: as `canonical_path`, or for a prefix inside `_lakefs_actions`.
    """
    text = _posix_text(prefix)
    if text and not text.strip("/"):
        return ""
    if text in (".", "./"):
        raise ValueError(f"{text!r} is not a prefix; the whole repository is '/'")
    if not text:
        raise ValueError("the prefix is empty; the whole repository is '/'")
    canonical = canonical_path(text.lstrip("/"))
    if canonical.split("/")[0] == _METADATA_DIRECTORY:
        raise ValueError(f"{text!r} lies in {_METADATA_DIRECTORY}/, which is never part of a workspace")
    return canonical


def _posix_text(path: object) -> str:
    """The path as written, with forward slashes; the Windows forms are recognised here."""
    if isinstance(path, PureWindowsPath):
        _refuse_anchor(path, str(path))
        return path.as_posix()
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise ValueError(f"a path is a str or an os.PathLike of str, not {type(path).__name__}")  # noqa: TRY004
    if "\\" in text:
        _refuse_anchor(PureWindowsPath(text), text)
        raise ValueError(f"{text!r} contains a backslash; write forward slashes, or pass a PureWindowsPath")
    return text


def _refuse_anchor(path: PureWindowsPath, text: str) -> None:
    if path.drive.startswith("\\\\"):
        raise ValueError(f"{text!r} is a UNC path; write it relative to the workspace")
    if path.drive:
        raise ValueError(f"{text!r} names a drive; write it relative to the workspace")
    if path.root:
        raise ValueError(f"{text!r} is absolute; write it relative to the workspace")
