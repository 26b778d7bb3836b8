"""What do the live tests, the demo and the benchmarks share? Real servers, real load, real faults, and their ends.

Everything here listens on loopback with a port the kernel picked, has a deadline, and ends what it started.
"""
