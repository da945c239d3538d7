"""Measure the paths whose speed is promised, each beside a reference in the same run; docs/benchmarks.md explains."""
