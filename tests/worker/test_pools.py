"""The threads of the supervisor: how many there are, and that none keeps the process from ending."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from perago.worker.host import Pool

from .bench import LIMIT


def fail() -> None:
    raise KeyError("x")


def test_results_and_errors_come_back_from_as_many_threads_as_there_may_be() -> None:
    async def calls() -> None:
        pool, barrier = Pool("test", 3), threading.Barrier(3)
        names = await asyncio.gather(*(pool.run(meet, barrier) for _ in range(9)))
        assert len(set(names)) <= 3
        with pytest.raises(KeyError):
            await pool.run(fail)
        assert await pool.run(int, "7", base=8) == 7
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            await pool.run(fail)

    def meet(barrier: threading.Barrier) -> int:
        barrier.wait(LIMIT)
        return threading.get_ident()

    asyncio.run(calls())


def test_calls_one_after_the_other_take_one_thread() -> None:
    async def calls() -> set[int]:
        pool, found = Pool("test", 3), set()
        for _ in range(20):
            found.add(await pool.run(threading.get_ident))
            await asyncio.sleep(0.01)  # so long a thread may take to say that it is free
        pool.close()
        return found

    assert len(asyncio.run(calls())) < 3


def test_a_call_that_nothing_waits_for_any_more_is_not_made() -> None:
    async def calls() -> list[str]:
        made: list[str] = []
        pool, gate = Pool("test", 1), threading.Event()
        first = asyncio.ensure_future(pool.run(gate.wait, LIMIT))
        second = asyncio.ensure_future(pool.run(made.append, "second"))
        third = asyncio.ensure_future(pool.run(made.append, "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        gate.set()
        await asyncio.gather(first, third)
        pool.close()
        return made

    assert asyncio.run(calls()) == ["third"]


def test_a_process_ends_without_waiting_for_a_call() -> None:
    program = """
import asyncio, threading
from perago.worker.host import Pool

async def main():
    pool, begun = Pool("test", 1), asyncio.Event()
    loop = asyncio.get_running_loop()

    def never_ends():
        loop.call_soon_threadsafe(begun.set)
        threading.Event().wait()

    asyncio.ensure_future(pool.run(never_ends))
    await begun.wait()
    pool.close()

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=LIMIT, check=False).returncode == 0
