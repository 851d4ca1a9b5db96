"""Writes `docs/dev/fidelity.md` from the scenarios, their recordings and the list of differences.

python -m tests.conformance.fidelity
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from .differences import DIFFERENCES, UNRECORDED
from .differential import conductor_machine, lakefs_machine
from .recordings import version
from .scenario import scenarios

PAGE = Path(__file__).parents[2] / "docs" / "dev" / "fidelity.md"
MACHINES = {"lakefs": lakefs_machine, "conductor": conductor_machine}
SERVERS = {"lakefs": "lakeFS", "conductor": "Conductor"}

INTRODUCTION = """\
# Fidelity of the embedded services

`python -m tests.conformance.fidelity` generates this page. A test fails if the page is out of date.

A scenario is a short series of REST calls that shows one behavior. Each scenario ran twice on a real server. Its
answers are in `fixtures/recordings/`, where the order of appearance replaces ids and times. On every change, each
scenario runs on the embedded server, and the answers are compared in status, error class and fields. The embedded
server words its errors differently (`tests/conformance/comparing.py` has the rule). With the address of a real
server (`PERAGO_CONFORMANCE_LAKEFS`, `PERAGO_CONFORMANCE_CONDUCTOR`), the same scenarios run there, so that a
changed server is noticed, too. `make conformance` does both, on its own Conductor.

`make differential` generates random conversations with hypothesis and sends them to both servers
(`tests/conformance/differential/`). The ports of the runtime have one set of scenarios for the models, for the
adapters with the embedded servers, and for the adapters with real servers
(`tests/conformance/ports/*_scenarios.py`).

The embedded servers answer 501 with the name of the call for everything that they do not model.

Scripts make the calls of the documented examples of both official SDKs (`tests/conformance/sdk/`), on the embedded
servers and on real ones. `make sdks` runs them with the oldest and the newest supported version of each:
"""

SDKS = {"conductor-python": ("2.0.0",), "lakefs": ("0.14.0", "0.16.0")}
"""The oldest and the newest version of each SDK that the scripts ran with."""

LAKEFS = """\
### Supported

Everything that perago, the `lakefs` wrapper, the official SDK, `lakectl` and `lakefs-spec` use in ordinary work:

- Repositories (also bare and read-only) and their metadata.
- Branches, tags, resets, refs with `~`, `^`, `@` and `$`, logs, diffs, listings with prefix and delimiter.
- Objects: raw and form uploads, ranges, copies, deletions, user metadata, `x-lakefs-internal-*` headers, and links to
  addresses of the block store. The bytes behind a link cannot be read: 410, as on a real server without them.
- Commits, merges with strategies, reverts, cherry-picks, and the history of action runs.
- Branch protection. A rule applies immediately; a real server can cache its absence for seconds.
- Setup state and login. The token of a login does not expire.

### Other differences

- Errors have the status and class of the real server, but different words, and are always JSON.
- Bodies are read by pydantic: text behind the JSON value and escaped halves of a character are refused with 400.
- An invalid content type is kept as text; a real server refuses the upload with 500.
- Names in paths are decoded once. A slash in a name, escaped or not, changes the path.
- Only perago's publish fence runs as a hook. Any other action file passes: each of its events warns (`ActionNotRun`)
  and has a run that says `skipped`. Which operations have events is taken from lakeFS's documentation, not recorded.
- `storage_id` is refused; `sample_data`, `source_metarange` and `no_tombstone` answer 501.
- There are no presigned transfers, as on a real server with a local block store.

### Not supported (501)

Every other call in the description of lakeFS's API: users, groups and policies, garbage collection, imports, dump and
restore, pull requests, multipart uploads by presigned links, ranges and meta ranges, staging of foreign objects,
symlinks. All calls are listed in `src/perago/embedded/http/lakefs_operations.txt`.
"""
CONDUCTOR = """\
### Supported

Everything that perago and conductor-python's clients and worker use in ordinary work:

- Task and workflow definitions, with validation; starts with and without a registered definition.
- Polls, batches, results (v1 and v2), logs, queues, domains, rate limits and `concurrentExecLimit`.
- Retries, delays and all timeouts, on a clock that tests own.
- Pause, resume, terminate, retry, rerun, restart and skip; in bulk as far as conductor-python has it.
- Operators: `SIMPLE`, `FORK_JOIN`, `FORK_JOIN_DYNAMIC`, `JOIN`, `SWITCH`, `DO_WHILE`, `SUB_WORKFLOW`, `START_WORKFLOW`,
  `DYNAMIC`, `SET_VARIABLE`, `TERMINATE`, `WAIT`, `HUMAN`, `NOOP`, `INLINE`, `JSON_JQ_TRANSFORM`, the older `LAMBDA`
  and `DECISION`, and `HTTP` where the test gives a function that answers. Scripts run in real engines, in a process of
  their own, for five seconds at most.

### Other differences

- Errors have the status and class of the real server, but different words.
- A call is one step here. On a real server other calls see half of a rerun, and two calls about one task can undo each
  other. A test shows this with `ConductorModel.between_writes` (`docs/dev/servers/conductor.md`, "Forks").
- Timeouts are punctual here. A real server notices them when its sweeper runs, for second attempts about 77 seconds
  late.
- A JOIN sees a failed attempt together with its retry here. A real server can execute the JOIN in between, and then the
  workflow fails (`docs/dev/servers/conductor.md`, "Forks").
- A JOIN that a retry or a rerun revives continues immediately here, and after up to 30 seconds on a real server.
- The whole output of a loop as an input of a step inside of it has the present iteration, as on the real server; there
  it also shows what the server schedules or does later in the same moment, with empty outputs.
- Maps and lists of the input are JavaScript's own in scripts. On the real server they are Java's:
  `JSON.stringify($.map)` is `{}` there, `$.map + ''` is `{x=1}`, and `Object.keys` lists methods. Results that are no
  JSON numbers (`BigInt`) fail here.
- `INLINE` knows JavaScript and `value-param`. `$ENV` is empty in jq, and `$__loc__` exists here alone. jq's errors of
  syntax have other words here, and so have those about an input of the wrong type for `explode`, `implode`, `split`,
  `startswith`, `index`, `min`, `unique`, `sub`, `to_entries` and what they are used in, and about `-` before a value.
  `@csv`, `join`, `nan`, `infinite`, `.[1.5]` and `"" | fromjson` give other results there. Answers of `HTTP` have no
  headers.
- A step whose `type` is null runs a worker here and is refused there (500); an empty `type` is shown as `SIMPLE`. Null
  instead of a step in `defaultCase`, `forkTasks` or `loopOver` is refused here (500) and stored there.
- A worker's task that is named `SWITCH`, `JOIN`, `SUB_WORKFLOW`, `DYNAMIC`, `EVENT` or like another operator answers
  501 at registration, or where a dynamic fork names it. A real server runs the operator without its fields, which
  completes with nothing, fails, or never ends.
- A step that a dynamic fork lists runs only the first step inside it, as on the real server. A listed loop of several
  steps answers 501, because the real server never ends it.
- `callbackAfterSeconds` of a JOIN that waits stays 0. On the real server it grows after about half a minute.
- JSON with text behind it is refused.
- There is no archive: a workflow that was removed is forgotten, as on a server without an index.

### Not supported (501)

Searches, removing several workflows at once, lists of names and versions, checks of definitions that are not stored,
event handlers and queues, secrets, runs of the scheduler, agents, admin, a loop inside of a loop, and every other call
in the server's own description: `src/perago/embedded/http/conductor_operations.txt`. Fields that would change what
happens (`sink`, `cacheConfig`, `rateLimited`, `joinStatus`, input or output in external storage) are refused, too.
"""
SUMMARIES = {"lakefs": LAKEFS, "conductor": CONDUCTOR}
"""What users need to know of a server. The scenarios themselves stand in `tests/conformance/`."""


def page() -> str:
    """The page as it must be."""
    parts = [INTRODUCTION, "".join(f"- {package} {' and '.join(versions)}\n" for package, versions in SDKS.items())]
    for server, title in SERVERS.items():
        parts.append("\n".join(_server(server, title)))
    return "\n".join(parts)


def _server(server: str, title: str) -> Iterator[str]:
    found = scenarios(server)
    versions = sorted({version(one) for one in found})
    differing = {name: reason for (kind, name), reason in sorted(DIFFERENCES.items()) if kind == server}
    yield f"## {title}\n"
    yield f"{len(found)} scenarios, recorded from {' and '.join(versions)}.\n"
    yield "### Intentional differences\n"
    if not differing:
        yield "None.\n"
    for name, reason in differing.items():
        yield f"- `{name}`: {reason}"
    yield "\n### Served without a recording\n"
    unrecorded = [f"- `{route}`: {reason}" for (kind, route), reason in sorted(UNRECORDED.items()) if kind == server]
    yield "\n".join(unrecorded or ["None."])
    yield "\n### Random conversations\n"
    yield f"{inspect.cleandoc(MACHINES[server].__doc__ or '')}\n"
    yield SUMMARIES[server]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
