"""Which capture steps are there? One line each; a test notices a file that is not registered."""

from __future__ import annotations

from responder.capture.step import Step

STEPS: dict[str, Step] = {step.name: step for step in ()}
