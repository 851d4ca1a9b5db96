"""Tracebacks of authors' code without the code around it: perago's, pydantic's and the import system's."""

from __future__ import annotations

import importlib
import re
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pydantic

import perago

_PLUGIN = str(Path(__file__).parent)
_OURS = (
    _PLUGIN,
    str(Path(perago.__file__).parent),
    str(Path(pydantic.__file__).parent),
    str(Path(importlib.__file__).parent),
    "<frozen importlib",
)
_PYTHON = sysconfig.get_paths()["stdlib"]


def author_traceback(error: BaseException | None) -> str:
    """The traceback of an error that came out of authors' code; empty if none of it is left."""
    if error is None:
        return ""
    shown = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in shown.stack if not _is_ours(frame)]
    if all(_is_pythons(frame) for frame in kept) and not isinstance(error, SyntaxError):
        return ""
    shown.stack = traceback.StackSummary.from_list(kept)
    shown.__cause__ = shown.__context__ = None
    return "".join(shown.format())


def without_plugin_frames(formatted: str) -> str:
    """A printed traceback without the frames of this plugin, which stands between authors and what it took away."""
    frame = rf'^  File "{re.escape(_PLUGIN)}.*\n(?:    .*\n)*'
    return re.sub(frame, "", formatted, flags=re.MULTILINE)


def author_stack(frame: FrameType | None) -> tuple[traceback.FrameSummary, ...]:
    """What authors' code was doing when `frame` was interrupted, the outermost call first."""
    stack = traceback.extract_stack(frame)
    calls = [index for index, summary in enumerate(stack) if summary.filename.startswith(_PLUGIN)]
    return tuple(summary for summary in stack[calls[-1] :] if not _is_ours(summary)) if calls else ()


def formatted_stack(stack: Sequence[traceback.FrameSummary]) -> str:
    """The stack as Python prints it; empty for none."""
    return "It was here:\n" + "".join(traceback.format_list(list(stack))) if stack else ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)


def _is_pythons(frame: traceback.FrameSummary) -> bool:
    """Whether it is a frame of the standard library, which says nothing if no author called it."""
    return frame.filename.startswith(_PYTHON) and "site-packages" not in frame.filename
