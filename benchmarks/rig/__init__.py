"""What the benchmarks stand on: made-up frames, who feeds them, who reads them, how to report."""
