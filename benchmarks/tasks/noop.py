"""A task that says when it ran, and sleeps for `BENCHMARK_SECONDS` if that is set. `BENCHMARK_TASK` names it, so that
runs do not meet."""

from __future__ import annotations

import os
import time

from pydantic import BaseModel

from perago import task


class Params(BaseModel):
    """Nothing to choose."""


class Result(BaseModel):
    """When the function ran, in seconds since the epoch."""

    ran: float


@task(name=os.environ.get("BENCHMARK_TASK", "benchmark.noop"), owner_email="benchmark@example.com")
def noop(params: Params) -> Result:  # noqa: ARG001 - the signature that the runtime wants
    ran = time.time()
    time.sleep(float(os.environ.get("BENCHMARK_SECONDS", "0")))
    return Result(ran=ran)
