"""Benchmarks: ratios between ways to do the same work, measured in one run."""
