"""What the benchmarks share: clocks, workloads, runners, reports and the parts of their tables."""
