"""Coverage of the processes that a function starts.

coverage.py has each child write a data file, and a relative name of it would mean the function's current directory,
which is removed with the attempt: what was measured would be lost, and would look like files that the function left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTION, _VARIABLE = "run:data_file", "COVERAGE_FILE"


@contextmanager
def measured_children() -> Iterator[None]:
    """Around a call of a function: if coverage measures this process, its children write their data beside that of
    this process."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    if measuring is None:
        yield
        return
    file = os.path.abspath(str(measuring.get_option(_OPTION)))  # noqa: PTH100 - no links are resolved
    measuring.set_option(_OPTION, file)  # a forked child copies it
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = file  # one of multiprocessing reads the configuration anew
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before
