"""How right are verdicts, and how right do they say they are? Parts of `python -m bench.diagnosis`."""
