"""What the benchmarks share: processes that take turns, numbers, tables."""
