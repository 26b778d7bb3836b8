"""`python -m responder.traces FILE…`: the trace command on its own."""

import typer

from responder.traces.cli import trace

if __name__ == "__main__":
    typer.run(trace)
