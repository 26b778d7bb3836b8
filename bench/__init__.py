"""How good is it, in figures? Benchmarks print what they measured and on what; they never assert."""
