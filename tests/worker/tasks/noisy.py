"""A task that says everything that is hard to log."""

from __future__ import annotations

import logging
import os

from pydantic import BaseModel

from perago import current, task

os.write(1, b"import \xff\n")


class Params(BaseModel):
    what: str


class Result(BaseModel):
    text: str


@task(name="worker.noisy", owner_email="tests@example.com")
def noisy(params: Params) -> Result:
    os.write(1, bytes(range(256)) + b"\n")
    os.write(2, b"x" * 50_000 + b"\n")
    print('\x1b[31m \u2028 \u202e {braces} "quotes" \\')
    current().log("half a pair \ud800")
    current().progress(1, 2)
    logging.getLogger("noisy").warning("%s", float("nan"))
    os.write(1, b"no end")
    raise ValueError("a\nb \udc80")
