"""What a person waits for after `perago dev` with two task modules: the lines to paste, and workers that poll.

Measured from outside, from the start of the process: until the ready block is printed, from when on workflows can be
started, and until the workers of both modules have said that they are ready.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Row, arguments, print_table, seconds, under

MODULES = ("perago.samples.penguins.clean", "perago.samples.penguins.summary")
LIMIT = 1.5


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=5).rounds
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home}
        _measure(environment)  # byte code and disk cache
        measured = [_measure(environment) for _ in range(rounds)]
    blocks, workers, ends = (statistics.median(column) for column in zip(*measured, strict=True))
    print_table(
        f"dev_ready, median of {rounds} runs",
        ["wall"],
        [
            Row("ready block is printed", [seconds(blocks)], under(LIMIT, blocks, f"under {LIMIT} s")),
            Row("both workers poll", [seconds(workers)], None),
            Row("Ctrl-C to the end", [seconds(ends)], None),
        ],
        depends_on="processor speed and free cores: both workers load the SDKs at the same time",
    )


def _measure(environment: dict[str, str]) -> tuple[float, float, float]:
    begun = time.monotonic()
    block = 0.0
    waiting = len(MODULES)
    command = [sys.executable, "-m", "perago", "dev", "--port", "0", *MODULES]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if "is ready after" in line:
                    block = time.monotonic() - begun
                waiting -= line.endswith("| ready\n")
                if not waiting:
                    break
            polling = time.monotonic() - begun
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    return block, polling, time.monotonic() - begun - polling


if __name__ == "__main__":
    main()
