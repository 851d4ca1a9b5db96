"""Benchmarks: `python -m benchmarks.<name>` each. They print ratios of one run and never fail
(docs/dev/benchmarks.md)."""
