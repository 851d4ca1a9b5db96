"""`--perago-cover`: how good the guardrails are, by what the tests of a run have seen of them (docs/testing/cover.md).

Nothing of it is imported unless it is asked for.
"""

from __future__ import annotations
