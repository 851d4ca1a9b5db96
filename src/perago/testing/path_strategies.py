"""Paths as authors write them in guardrails: good ones with what they mean, and hostile ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeAlias

from hypothesis import strategies as st

Written: TypeAlias = "str | PurePosixPath | PureWindowsPath"

_NAMES = ("raw", "a.csv", ".cache", "x y", "Größe", "漢字", "...", "..a", "a..", "~", "-", "con", "e\u0301", "$HOME")
_DEFAULT = ("raw/a.csv",)
_CONTROL = ("\0", "\n", "\t", "\x1b", "\x7f", "\u0085", "\ud800")


@st.composite
def guardrail_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> tuple[Written, str]:
    """A path that can be declared, in some spelling, and its canonical form; sometimes one of `near`."""
    names = draw(
        st.one_of(st.sampled_from(near or _DEFAULT).map(_split), st.lists(st.sampled_from(_NAMES), min_size=1))
    )
    canonical = "/".join(names)
    spelling = draw(st.sampled_from(["plain", "dots", "slashes", "posix", "windows"]))
    if spelling == "posix":
        return PurePosixPath(canonical), canonical
    if spelling == "windows":
        return PureWindowsPath(*names), canonical
    if spelling == "dots":
        return "./" + "/./".join(names), canonical
    if spelling == "slashes":
        return "//".join(names) + "/", canonical
    return canonical, canonical


@st.composite
def hostile_paths(draw: st.DrawFn, near: Sequence[str] = ()) -> Written:
    """A path that no guardrail may take: it leaves the workspace, belongs to another system, or is no path at all.
    It is a good one, sometimes one of `near`, with something wrong in it."""
    names = _split(draw(st.sampled_from(near or _DEFAULT)))
    path = "/".join(names)
    place = draw(st.integers(0, len(names)))
    with_parent = "/".join([*names[:place], "..", *names[place:]])
    letter = draw(st.sampled_from("cCzZ"))
    server = draw(st.sampled_from(["server/share", "?/C:", "./pipe"]))
    middle = draw(st.integers(0, len(path)))
    forms: list[Written] = [
        f"/{path}",
        f"///{path}",
        PurePosixPath(f"/{path}"),
        with_parent,
        f"./{with_parent}/.",
        PurePosixPath(with_parent),
        PureWindowsPath(with_parent),
        f"{letter}:{path}",
        f"{letter}:/{path}",
        f"{letter}:\\{path}",
        PureWindowsPath(f"{letter}:{path}"),
        PureWindowsPath(f"{letter}:\\{path}"),
        PureWindowsPath(f"\\{path}"),
        f"//{server}/{path}",
        f"\\\\{server}\\{path}".replace("/", "\\"),
        PureWindowsPath(f"//server/share/{path}"),
        f"{path[:middle]}\\{path[middle:]}",
        f"{path[:middle]}{draw(st.sampled_from(_CONTROL))}{path[middle:]}",
        "",
        ".",
        "./",
        "././/.",
        "/",
    ]
    return draw(st.sampled_from(forms))


def _split(path: str) -> list[str]:
    return path.split("/")
