"""`perago gc` and `perago cache`: remove leftovers, and look after the object cache of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json, argument, option, seconds_of_age
from perago.cli.rendering import Renderer, print_json
from perago.failure import Failure
from perago.text import count, one_line, size

if TYPE_CHECKING:
    from perago.driver.gc import BranchAges, Leftover, Policy
    from perago.settings import Settings


_WIDTH = len("would remove")

EXAMPLES = {
    "gc": """\b
Removed, if older than --older-than:
  attempt directories     whose marker no process holds
  staging branches        that are at least an hour old, and for whose
  with a commit             delivery Conductor is not waiting; gc keeps them
                            if Conductor does not answer or is not configured
  staging branches        on which nothing was staged for at least an hour;
  without a commit          scratch branches of perago fence follow the same
                            rule

\b
lakeFS does not report when a branch was created. gc therefore removes a
branch without staged objects only if an earlier gc has found the branch in
the same state. gc records these branches in gc.json in perago's state
directory.
A dry run neither removes nor records anything.
Publications are not affected, because a merge names a commit and needs no
branch.

\b
Examples:
  perago gc                                attempt directories of this machine
  perago gc my-data --dry-run              also list branches of a repository
  perago gc my-data other --older-than 7d""",
    "cache": """\b
Workers keep the objects that they have fetched or published below the
workspace root, and copy them from there the next time. The least recently
used objects make room for new ones. PERAGO_CACHE_MAX_BYTES limits the cache;
0 switches it off.

\b
Examples:
  perago cache
  perago cache --clear      attempts may run at the same time
  perago cache --verify     finds a failing disk; attempts may run, too""",
}


def gc(
    repositories: Annotated[list[str] | None, argument("REPO", "lakeFS repositories to look for branches in.")] = None,
    dry_run: Annotated[bool, option("--dry-run", "List what would be removed. Remove nothing.")] = False,
    older_than: Annotated[
        str, option("--older-than AGE", "Keep everything that is younger, such as 12h or 7d.")
    ] = "1d",
    as_json: Json = False,
) -> None:
    """Remove the directories of killed attempts on this machine, and their staging branches on lakeFS.

    gc keeps everything that belongs to a running delivery. It skips and reports a repository that does not exist or
    that lakeFS refuses to show. Workers do the same every hour, for the directories below their root and the
    repositories that their attempts have read.
    """
    limit, names = seconds_of_age(older_than, "--older-than"), list(dict.fromkeys(repositories or ()))
    from perago.settings import load_settings

    settings = load_settings()
    if names:
        settings.require_lakefs()
    from perago.driver import SystemClock
    from perago.driver.gc import Fate, Policy, clear_directories

    policy = Policy(limit, SystemClock().now(), dry_run)
    reported: list[Leftover] = []
    skipped: list[str] = []
    try:
        branches = _clear_branches(settings, names, policy, skipped) if names else ()
        for leftover in chain(clear_directories(settings.workspace_root, policy), branches):
            reported.append(leftover)
            if not as_json:
                print_leftover(leftover, policy)
    finally:
        if as_json:
            leftovers = [_fields(leftover) for leftover in reported]
            print_json({"dry_run": dry_run, "older_than_seconds": limit, "leftovers": leftovers})
    if not as_json:
        print_summary(reported, policy, names)
    if skipped or any(leftover.fate is Fate.FAILED for leftover in reported):
        raise typer.Exit(ExitCode.FAILURE)


def _clear_branches(
    settings: Settings, repositories: list[str], policy: Policy, skipped: list[str]
) -> Iterator[Leftover]:
    """Clear each repository. Report a repository that does not exist or is refused, and continue with the next one."""
    from perago.configuration import Servers
    from perago.driver.gc import BranchAges, BranchClearing
    from perago.ports import Forbidden, NotFound, Refused
    from perago.settings import state_directory
    from perago.taskdef.payload import name_problem

    lakefs = settings.require_lakefs()
    ages = BranchAges(state_directory() / "gc.json", lakefs.endpoint_url)
    with ExitStack() as stack:
        if not policy.dry_run:
            stack.callback(_save, ages)
        servers = stack.enter_context(Servers(settings))
        clearing = BranchClearing(servers.store, servers.queue if settings.conductor else None, ages, policy)
        for repository in repositories:
            if problem := name_problem("repository", repository):
                skipped.append(repository)
                messages.error(f"perago skipped {repository}, because it {problem}")
                continue
            try:
                yield from clearing.clear(repository)
            except (NotFound, Forbidden, Refused) as error:
                skipped.append(repository)
                is_missing = isinstance(error, NotFound)
                why = f"{lakefs.shown} has no such repository: {error.detail}" if is_missing else str(error)
                fix = "check the name and LAKECTL_SERVER_ENDPOINT_URL" if is_missing else ""
                messages.error(f"perago skipped {repository}: {why}", fix)
        if clearing.silence is not None:
            raise clearing.silence


def _save(ages: BranchAges) -> None:
    try:
        ages.save()
    except OSError as error:
        problem = f"{ages.file} cannot be written ({error.strerror})"
        messages.warning(f"{problem}, so perago gc does not remove branches without staged objects")


def print_leftover(leftover: Leftover, policy: Policy) -> None:
    """Print one leftover, whether it was removed, and the reason."""
    from perago.driver.gc import Fate

    if leftover.repository is None:
        where = f"{leftover.name} ({size(leftover.size or 0)})"
    else:
        where = f"branch {leftover.name} of {leftover.repository}"
    word = "would remove" if policy.dry_run and leftover.fate is Fate.REMOVED else leftover.fate.value
    sys.stdout.write(f"{word:<{_WIDTH}}  {one_line(f'{where}: {leftover.reason}')}\n")
    sys.stdout.flush()


def print_summary(leftovers: Sequence[Leftover], policy: Policy, repositories: Sequence[str]) -> None:
    """Print the totals."""
    from perago.driver.gc import Fate

    cleared = [leftover for leftover in leftovers if leftover.fate is Fate.REMOVED]
    directories = [leftover for leftover in cleared if leftover.repository is None]
    freed = sum(leftover.size or 0 for leftover in directories)
    removed = f"{count(len(directories), 'attempt directory', 'attempt directories')} ({size(freed)})"
    removed += f" and {count(len(cleared) - len(directories), 'branch', 'branches')}"
    sys.stdout.write(
        f"{'would remove' if policy.dry_run else 'removed'} {removed}; {len(leftovers) - len(cleared)} kept\n"
    )
    if not repositories:
        messages.note("to remove branches as well, name their repositories, such as: perago gc my-data")


def _fields(leftover: Leftover) -> dict[str, object]:
    if leftover.repository is None:
        what: dict[str, object] = {"kind": "directory", "path": leftover.name, "bytes": leftover.size}
    else:
        what = {"kind": "branch", "repository": leftover.repository, "branch": leftover.name}
    return {**what, "fate": leftover.fate.value, "reason": leftover.reason}


# ------------------------------------------------------------------------------------------------ the object cache


def cache(
    clear: Annotated[bool, option("--clear", "Delete everything in the cache, and its counts.")] = False,
    verify: Annotated[bool, option("--verify", "Read every object, and delete the damaged ones.")] = False,
    as_json: Json = False,
) -> None:
    """Show how full the object cache is and how often it has helped, verify it, or clear it."""
    if clear and verify:
        raise CommandError(ExitCode.USAGE, "--clear and --verify exclude each other", "use one of them")
    from perago import cache as objects
    from perago.settings import load_settings

    settings = load_settings()
    root = settings.workspace_root
    place, verified, limit = root / ".cache", None, settings.cache_max_bytes
    try:
        verified = objects.verify(root) if verify else None
        cached = objects.clear(root) if clear else objects.usage(root)
        if limit is None and not clear:
            # Ask for the disk of the root itself, unless no worker has created it yet.
            limit = objects.default_limit(next(path for path in (root, *root.parents) if path.exists()))
    except (objects.CacheUnusable, OSError) as error:
        raise Failure(f"the cache cannot be used: {error}", f"delete {place}") from error
    held, out = f"{count(cached.entries, 'object')}, {size(cached.size)}", Renderer()
    if as_json:
        document = {"path": str(place), "cleared": clear, "limit": limit, **asdict(cached)}
        print_json(document | ({"verified": asdict(verified)} if verified else {}))
    elif verified:
        out.line(str(place))
        out.line(f"  sound    {count(verified.sound, 'object')}")
        for name in verified.damaged:
            out.line(f"  deleted  {name}")
    elif clear:
        out.line(f"removed {held} from {place}")
    else:
        asked = cached.hits + cached.misses
        share = f" ({cached.hits / asked:.0%})" if asked else ""
        out.line(str(place))
        out.line(f"  holds   {held}")
        out.line(f"  limit   {size(limit) if limit else 'off'}")
        out.line(f"  helped  {cached.hits:,} of {count(asked, 'object')}{share}, {size(cached.hit_bytes)}")
    if verified and verified.damaged:
        what = f"{count(len(verified.damaged), 'object')} in {place} had damaged bytes"
        raise Failure(what, "check the disk; the next attempts download these objects again")
