"""Benchmarks: speed end to end from encoded bytes, and of the network alone."""
