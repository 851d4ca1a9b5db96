"""Standard streams that can be relied on."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Put the null device where a stream is closed, and let no character be too much for a stream's encoding.

    Its descriptors are inherited like the real ones: in a worker process without them, whatever is opened first would
    be taken for standard output.
    """
    for descriptor in range(3):
        _fill(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fill(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:  # the lower ones are taken, so this is the number that the system gives
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
