"""The workers that the benchmarks start."""
