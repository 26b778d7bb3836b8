"""What did every engine step look like? A black box that runs inside vLLM: standard library only, off unless asked for.

Nothing in this folder imports the rest of the responder, so that it can live in vLLM's own environment.
"""
