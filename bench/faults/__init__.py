"""What does the daemon say about faults whose cause is known? Real vLLM, real Prometheus, the real daemon.

    python -m bench.faults --list
    python -m bench.faults [NAMES or families] --out DIR

Each file of `scenarios/` is one family of experiments with one truth: which server, which traffic, what is done to it,
what clients must feel of it, and which part of the corpus it belongs to (weights are set on `tune`, the score is on
`score`). Recorded incidents are folders that `responder replay --today` reads.
"""
