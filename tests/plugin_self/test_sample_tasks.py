"""perago's own plugin on the sample task modules of the fixtures, as an author would use it."""

from __future__ import annotations

from perago.testing import task_tests

test_workers = task_tests("app.workers")
test_samples = task_tests("perago.samples")
test_fuzz = task_tests("app.workers", "perago.samples", kinds=["fuzz"])
