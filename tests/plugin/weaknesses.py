"""Task functions with a weakness that production brings to light, and ones that only look as if they had one.

Each is the body of a function `work(workspace, params)`, which also has `out`, a new directory, and `tables`, sorted.
"""

# ruff: noqa: E501 - a body is one line

from __future__ import annotations

import textwrap

import pytest

from .projects import write_module

_HEAD = """
import asyncio, contextlib, datetime, functools, glob, gzip, json, os, queue, random, signal, sqlite3, subprocess
import tempfile, threading, time, uuid
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from datetime import date, timedelta
from pathlib import Path
from pydantic import BaseModel, Field
from perago import Example, TaskFailed, WorkspaceSpec, current, require_glob, task

SEEN = []
BESIDE = Path({beside!r})
TREE = {{"raw/a.csv": "1\\n", "raw/b.csv": "2\\n3\\n", "raw/c.csv": "5\\n"}}

class Params(BaseModel):
    day: str = Field(default_factory=lambda: str(date.today()))

class Result(BaseModel):
    value: str = ""

def write(path, text):
    path.write_text(text)
    return Result()

@task(
    name={name!r},
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")], post=[require_glob("out/*")]),
    examples=[Example(id="x", params={{}}, tree=TREE)],
)
def work(workspace: Path, params: Params) -> Result:
    out = workspace / "out"
    out.mkdir(exist_ok=True)
    tables = sorted(workspace.glob("raw/*.csv"))
{body}
"""

PLANTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "the day": ("return write(out / 'm', str(date.today()))", ("time",)),
    "the moment": ("from time import time_ns\nreturn write(out / str(time_ns()), '')", ("time",)),
    "a duration": (
        "start = time.perf_counter()\nwrite(out / 'm', '')\nreturn Result(value=str(time.perf_counter() - start))",
        ("time",),
    ),
    "the time in an archive": (
        "with gzip.open(out / 'm.gz', 'wb') as file:\n    file.write(b'1')\nreturn Result()",
        ("time",),
    ),
    "a random number": ("return write(out / 'm', str(random.random()))", ("random",)),
    "a random generator": ("return write(out / 'm', str(random.Random().random()))", ("random",)),
    "a random name": ("return write(out / str(uuid.uuid4()), '')", ("random",)),
    "listdir": ("return write(out / 'm', ','.join(os.listdir(workspace / 'raw')))", ("listing-order",)),
    "glob": (
        "return write(out / 'm', ''.join(each.read_text() for each in workspace.glob('raw/*')))",
        ("listing-order",),
    ),
    "the first entry": (
        "return write(out / 'm', next(iter((workspace / 'raw').iterdir())).read_text())",
        ("listing-order",),
    ),
    "walk": (
        "return Result(value=write(out / 'm', '').value + str([each for each in os.walk(workspace / 'raw')][0][2]))",
        ("listing-order",),
    ),
    "a set": ("return write(out / 'm', ','.join({table.name for table in tables}))", ("set-order",)),
    "threads that append": (
        "names = []\nthreads = [threading.Thread(target=lambda table=table: names.append(table.name)) for table in tables]\n"
        "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\n"
        "return write(out / 'm', ','.join(names))",
        ("thread-timing",),
    ),
    "the thread that is last": (
        "last = []\nthreads = [threading.Thread(target=last.__setitem__, args=(slice(None), [table.name])) for table in tables]\n"
        "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\nreturn write(out / 'm', last[0])",
        ("thread-timing",),
    ),
    "a shuffle": ("random.shuffle(tables)\nreturn write(out / 'm', tables[0].name)", ("random",)),
    "as_completed": (
        "with ThreadPoolExecutor() as pool:\n    futures = [pool.submit(table.read_text) for table in tables]\n"
        "    return write(out / 'm', ''.join(future.result() for future in as_completed(futures)))",
        ("thread-timing",),
    ),
    "another result in a retry": (
        "return write(out / 'm', 'again' if current().retry_count else 'first')",
        ("retried",),
    ),
    "a lock that a death leaves": (
        "lock = BESIDE / 'lock'\nif lock.exists():\n    raise TaskFailed('locked')\nlock.write_text('')\n"
        "try:\n    return write(out / 'm', '')\nfinally:\n    lock.unlink()",
        ("retried",),
    ),
    "a ledger beside": (
        "with (BESIDE / 'ledger').open('a') as file:\n    file.write('1')\n"
        "return write(out / 'm', (BESIDE / 'ledger').read_text())",
        ("repeated", "left-behind"),
    ),
    "the process id": ("return write(out / 'm', str(os.getpid()))", ("repeated",)),
    "the host name": ("import socket\nreturn write(out / 'm', socket.gethostname())", ("repeated",)),
    "the name of the system": ("return write(out / 'm', os.uname().nodename)", ("repeated",)),
    "the time of a download": ("return write(out / 'm', str(tables[0].stat().st_mtime))", ("repeated",)),
    "the first thread that ends": (
        "with ThreadPoolExecutor(2) as pool:\n    left, texts = [pool.submit(each.read_text) for each in tables], []\n"
        "    while left:\n        done, left = wait(left, return_when='FIRST_COMPLETED')\n"
        "        texts += [each.result() for each in done]\nreturn write(out / 'm', ''.join(texts))",
        ("thread-timing",),
    ),
    "rows of a database": (
        "with contextlib.closing(sqlite3.connect(out / 'm.db')) as db, db:\n"
        "    db.execute('create table if not exists t(x)')\n    db.execute('insert into t values (1)')\nreturn Result()",
        ("own-output",),
    ),
    "the home directory": ("return write(out / 'm', str(Path.home()))", ("repeated",)),
    "the language": ("return Result(value=write(out / 'm', '').value + os.environ.get('LANG', ''))", ("repeated",)),
    "the address of an object": ("return write(out / 'm', repr(write))", ("repeated",)),
    "a thread that writes late": (
        "thread = threading.Thread(target=lambda: time.sleep(0.2) or SEEN.clear(), daemon=True)\nthread.start()\n"
        "return write(out / 'm', '')",
        ("left-behind",),
    ),
    "a default that reads the clock": ("return write(out / 'm', params.day)", ("time",)),
    "state": ("SEEN.append(1)\nreturn write(out / 'm', str(len(SEEN)))", ("repeated",)),
    "the path of the workspace": ("return write(out / 'm', str(tables[0]))", ("repeated",)),
    "appends to its output": (
        "with (out / 'm').open('a') as file:\n    file.write('1')\nreturn Result()",
        ("own-output",),
    ),
    "a bare except": (
        "try:\n    write(out / 'm', '1')\nexcept:\n    pass\nreturn write(out / 'n', '')",
        ("cancelled",),
    ),
    "a handler of TERM": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nreturn write(out / 'm', '1')",
        ("cancelled",),
    ),
    "a return in finally": ("try:\n    write(out / 'm', '1')\nfinally:\n    return Result()", ("cancelled",)),
    "less on a full disk": (
        "for table in tables:\n    try:\n        write(out / table.name, '1')\n    except OSError:\n        pass\nreturn Result()",
        ("full-disk",),
    ),
    "a child": ("subprocess.Popen(['sleep', '30'])\nreturn write(out / 'm', '')", ("left-behind",)),
    "a temporary file": ("os.close(tempfile.mkstemp()[0])\nreturn write(out / 'm', '')", ("left-behind",)),
    "a file in the current directory": ("return write(Path('m'), '') and write(out / 'm', '')", ("left-behind",)),
}
"""Its name: the body, and the tests that must find it; no other may fail."""

CLEAN = {
    "a temporary name with the process id": (
        "part = out / f'{os.getpid()}.part'\nwrite(part, '1')\npart.rename(out / 'm')\nreturn Result()"
    ),
    "a signal to itself": (
        "signal.signal(signal.SIGUSR1, lambda *_: None)\nos.kill(os.getpid(), signal.SIGUSR1)\nreturn write(out / 'm', '1')"
    ),
    "copies": "for table in tables:\n    write(out / table.name, table.read_text())\nreturn Result(value=str(len(tables)))",
    "a seed": "return write(out / 'm', str(random.Random(7).random()))",
    "a sorted set": "return write(out / 'm', ','.join(sorted({table.name for table in tables})))",
    "threads by place": (
        "found = {}\nthreads = [threading.Thread(target=lambda each=each: found.update({each: 1})) for each in tables]\n"
        "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\n"
        "return write(out / 'm', ','.join(each.name for each in sorted(found)))"
    ),
    "threads that need each other": (
        "barrier = threading.Barrier(2, timeout=0.5)\nthreads = [threading.Thread(target=barrier.wait) for _ in range(2)]\n"
        "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\nreturn write(out / 'm', '')"
    ),
    "a producer and a consumer": (
        "waiting, found = queue.Queue(maxsize=1), []\n"
        "def produce():\n    for each in (*tables, None):\n        waiting.put(each)\n"
        "def consume():\n    while (each := waiting.get()) is not None:\n        found.append(each.name)\n"
        "threads = [threading.Thread(target=produce), threading.Thread(target=consume)]\n"
        "for thread in threads:\n    thread.start()\nfor thread in threads:\n    thread.join()\n"
        "return write(out / 'm', ','.join(found))"
    ),
    "map of a pool": "with ThreadPoolExecutor() as pool:\n    return write(out / 'm', ''.join(pool.map(Path.read_text, tables)))",
    "coroutines": (
        "async def read(each):\n    return await asyncio.to_thread(each.read_text)\n"
        "async def every():\n    return await asyncio.gather(*[read(each) for each in tables])\n"
        "return write(out / 'm', ''.join(asyncio.run(every())))"
    ),
    "the time in the log": "current().log(f'{time.time()} {datetime.datetime.now()}')\nreturn write(out / 'm', '')",
    "dates that are given": (
        "day = datetime.datetime(2024, 1, 31) + timedelta(days=1)\nassert isinstance(day, datetime.datetime)\n"
        "return write(out / 'm', f'{day:%d} {datetime.datetime.fromisoformat(\"2024-01-01\")} {date(2024, 1, 1)}')"
    ),
    "waits for a moment": "end = time.monotonic() + 0.05\nwhile time.monotonic() < end:\n    time.sleep(0.01)\nreturn write(out / 'm', '')",
    "a child that it waits for": (
        "done = subprocess.run(['cat', tables[0]], capture_output=True, check=True)\nreturn write(out / 'm', done.stdout.decode())"
    ),
    "a temporary directory": (
        "with tempfile.TemporaryDirectory() as place:\n    write(Path(place, 'm'), '1')\n    return write(out / 'm', '1')"
    ),
    "cleans up and raises": (
        "part = out / 'part'\ntry:\n    write(part, '1')\n    part.rename(out / 'm')\nexcept BaseException:\n"
        "    part.unlink(missing_ok=True)\n    raise\nreturn Result()"
    ),
    "asks whether it is cancelled": (
        "for table in tables:\n    if current().cancelled:\n        break\n    write(out / table.name, '1')\nreturn Result()"
    ),
    "swallows an Exception": (
        "count = 0\nfor table in tables:\n    try:\n        count += int(table.read_text())\n    except ValueError:\n        continue\n"
        "return write(out / 'm', str(count))"
    ),
    "adds to its input": "with tables[0].open('a') as file:\n    file.write('9\\n')\nreturn write(out / 'm', '')",
    "says which workflow it was": "return write(out / 'm', current().workflow_id + current().task_id)",
    "a database": (
        "with contextlib.closing(sqlite3.connect(out / 'm.db')) as db:\n    db.execute('drop table if exists t')\n"
        "    db.execute('create table t(x)')\n    db.commit()\nreturn Result()"
    ),
}


def write_weaknesses(pytester: pytest.Pytester, bodies: dict[str, str]) -> dict[str, str]:
    """Write a module for each below the package `work`; returns the names of the tasks by those of the weaknesses."""
    beside = pytester.path / "beside"
    beside.mkdir()
    names = {}
    for number, (name, body) in enumerate(bodies.items()):
        names[name] = f"task-{number:02}"
        text = _HEAD.format(name=names[name], body=textwrap.indent(body, "    "), beside=str(beside))
        write_module(pytester, f"work.m{number:02}", text)
    return names
