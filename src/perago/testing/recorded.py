"""Recorded cases: an attempt of production, kept as a directory that a person can read and edit.

`tests/perago_cases/<task>/<name>/`:

    case.json       params, how the attempt ended, its result, digests of what it published
    input/          the tree that it read
    published/      those of the published files that are small
    taskdef.json    the TaskDef of the time

`perago capture` writes them. Keys of `case.json` that are taken out are not compared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.atomic_file import replace_file
from perago.testing.cases import InvalidCase, RunCase
from perago.testing.difference import Content, Digest, digest_of
from perago.testing.remains import Remains
from perago.testing.tree_sources import BadTree, tree_of
from perago.workspace.text import quoted

CASE, INPUT, PUBLISHED, TASKDEF = "case.json", "input", "published", "taskdef.json"
ENDINGS = ("completed", "pre", "post", "failed", "terminal")
LARGEST_KEPT = 64 * 1024
"""Bytes of a published file that is kept whole; of larger ones size and digest."""
MOST_KEPT = 4 * 1024 * 1024
"""Bytes of all published files together that are kept."""
_KEYS = {"about", "expect", "params", "result", "published", "removed"}
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Record:
    """What a recorded case is compared with. None: not compared."""

    directory: Path
    ending: str
    result: Any
    has_result: bool
    files: Mapping[str, Content | Digest] | None
    removed: frozenset[str]

    def remains(self, now: Remains) -> Remains:
        """What was recorded; what is not to be compared is as it is now."""
        compares_files = self.files is not None
        return Remains(
            self.ending,
            "",
            self.result if self.has_result else now.result,
            self.files if self.files is not None else now.files,
            self.removed if compares_files else now.removed,
        )


def recorded_cases(directory: Path, task_name: str) -> tuple[Path, ...]:
    """The case directories of a task, sorted. One that has a case file beside it is the tree of that case."""
    found = (directory / task_name).glob(f"*/{CASE}")
    directories = (file.parent for file in found if not file.parent.name.startswith("."))
    return tuple(sorted(one for one in directories if not one.with_name(f"{one.name}.toml").exists()))


def read_recorded_case(directory: Path) -> tuple[RunCase, Record]:
    """One case directory: what to run, and what it is compared with.

    Raises:
        InvalidCase: it is not in the format above, or has links in it.
    """
    file = directory / CASE
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCase(f"{file} is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("params"), dict):
        raise InvalidCase(f"{file}: must be an object with params, which are an object")
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        raise InvalidCase(f"{file}: unknown key {unknown[0]!r}; a case has {', '.join(sorted(_KEYS))}")
    ending = document.get("expect", "completed")
    if ending not in ENDINGS:
        raise InvalidCase(f"{file}: expect is {ending!r}, and must be one of {', '.join(ENDINGS)}")
    tree: Any = _tree(directory / INPUT)
    result = document.get("result", _MISSING)
    removed = document.get("removed", [])
    if not isinstance(removed, list) or not all(isinstance(path, str) for path in removed):
        raise InvalidCase(f"{file}: removed must be a list of paths")
    record = Record(
        directory,
        ending,
        None if result is _MISSING else result,
        result is not _MISSING,
        _published(directory, document),
        frozenset(removed),
    )
    return RunCase(directory.name, document["params"], tree, ending, file=file), record


def write_outcome(directory: Path, now: Remains) -> None:
    """Record what an attempt leaves today in the place of what was recorded.

    Raises:
        OSError: the directory cannot be written.
    """
    file = directory / CASE
    document = json.loads(file.read_text(encoding="utf-8"))
    document.pop("result", None)
    document.pop("published", None)
    document.pop("removed", None)
    document |= outcome_fields(now)
    shutil.rmtree(directory / PUBLISHED, ignore_errors=True)
    keep_small_files(directory / PUBLISHED, now.files)
    replace_file(file, case_text(document).encode())


def outcome_fields(remains: Remains) -> dict[str, Any]:
    """How an attempt ended, as `case.json` has it."""
    fields: dict[str, Any] = {"expect": remains.ending}
    if remains.ending == "completed":
        digests = {path: digest_of(content) for path, content in sorted(remains.files.items())}
        fields["result"] = remains.result
        fields["published"] = {path: {"size": digest.size, "md5": digest.md5} for path, digest in digests.items()}
        fields["removed"] = sorted(remains.removed)
    return fields


def case_text(document: Mapping[str, Any]) -> str:
    """`case.json` as text."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def keep_small_files(directory: Path, files: Mapping[str, Content | Digest]) -> None:
    """Write the files that are small, and not too many."""
    total = 0
    for path, content in sorted(files.items()):
        size = digest_of(content).size
        if isinstance(content, Digest) or size > LARGEST_KEPT or total + size > MOST_KEPT:
            continue
        total += size
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def _tree(directory: Path) -> Mapping[str, Any]:
    if directory.is_symlink():
        raise InvalidCase(f"{directory} is a link; a case directory has none")
    if not directory.exists():
        return {}
    try:
        return tree_of(directory)
    except (BadTree, OSError) as error:
        raise InvalidCase(str(error)) from None


def _published(directory: Path, document: Mapping[str, Any]) -> Mapping[str, Content | Digest] | None:
    """What was published: the files that were kept, and digests of the others."""
    listed = document.get("published")
    kept = _tree(directory / PUBLISHED)  # also where nothing is compared: it is written to when the case is updated
    if listed is None:
        return None
    where = f"{directory / CASE}: published"
    if not isinstance(listed, dict):
        raise InvalidCase(f"{where} must map paths to size and md5")
    strange = sorted(path for path, content in kept.items() if path not in listed and content is not None)
    if strange:
        raise InvalidCase(f"{where} does not have {quoted(strange[0])}, which is in {PUBLISHED}/")
    found: dict[str, Content | Digest] = {}
    for path, facts in listed.items():
        if (
            not isinstance(facts, dict)
            or not isinstance(facts.get("size"), int)
            or not isinstance(facts.get("md5"), str)
        ):
            raise InvalidCase(f"{where}: {quoted(path)} must have a size and an md5")
        content = kept.get(path)
        found[path] = content if isinstance(content, bytes) else Digest(facts["size"], facts["md5"])
    return found
