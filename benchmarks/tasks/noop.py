"""A task that does nothing but say when it ran. `BENCHMARK_TASK` names it, so that runs do not meet."""

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
    return Result(ran=time.time())
