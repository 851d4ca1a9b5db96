"""Replacing files: modes, and what killed processes have left (for races see the snapshots' tests)."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from perago.atomic_file import replace_file


def test_a_file_keeps_its_mode_unless_another_one_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(mode=0o640)
    replace_file(file, b"new")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o640)
    replace_file(file, b"", mode=0o600)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_temporary_files_of_a_killed_process_are_removed_after_a_while(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".[x].json.0.tmp", ".[x].json.1.tmp", ".x.json.0.tmp"))
    for left in (old, young, other):
        left.touch()
    for left in (old, other):
        os.utime(left, (time.time() - 3600,) * 2)
    replace_file(tmp_path / "[x].json", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, other.name, "[x].json"]


def test_a_file_that_cannot_be_written_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "directory", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]
