"""perago's own plugin on the sample task modules of the fixtures, as an author would use it."""

from __future__ import annotations

from perago.testing import task_tests

_KINDS = ["contract", "guardrail", "fuzz", "taskdef", "run", "faults"]

test_workers = task_tests("app.workers", kinds=_KINDS)
test_samples = task_tests("perago.samples", kinds=_KINDS)
