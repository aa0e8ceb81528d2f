"""Measures the package's own programs, on random weights, on the devices at hand (`launch.benchmark`)."""
