"""Benchmarks: each module runs alone, against a baseline in the same run."""
