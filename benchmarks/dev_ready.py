"""What a person waits for after `perago dev` with two task modules: workers that poll, and the lines to paste.

Measured from outside, from the start of the process, until the ready block is printed. Then both workers poll.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Row, arguments, print_table, seconds

MODULES = ("perago.samples.penguins.clean", "perago.samples.penguins.summary")


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=5).rounds
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home}
        _measure(environment)  # byte code and disk cache
        measured = [_measure(environment) for _ in range(rounds)]
    blocks, ends = (statistics.median(column) for column in zip(*measured, strict=True))
    print_table(
        f"dev_ready, median of {rounds} runs",
        ["wall"],
        [
            Row("both workers poll, and the ready block is printed", [seconds(blocks)], None),
            Row("Ctrl-C to the end", [seconds(ends)], None),
        ],
        depends_on="processor speed and free cores: both workers load the SDKs at the same time",
    )


def _measure(environment: dict[str, str]) -> tuple[float, float]:
    begun = time.monotonic()
    command = [sys.executable, "-m", "perago", "dev", "--port", "0", *MODULES]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if "is ready after" in line:
                    break
            block = time.monotonic() - begun
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    return block, time.monotonic() - begun - block


if __name__ == "__main__":
    main()
