"""What does the daemon run on? A configuration with everything it points at, checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from responder.capture import STEPS
from responder.config import Config
from responder.content import load
from responder.model import Content, Target
from responder.pace import fitted


@dataclass(frozen=True)
class Loaded:
    """Nothing is replaced by it before all of it is known to be good."""

    config: Config
    content: Content
    targets: dict[str, Target]

    def paced(self, scrape_interval_s: float) -> Loaded:
        """The same, its rules fitted to how often the servers are scraped."""
        return Loaded(self.config, fitted(self.content, scrape_interval_s), self.targets)


def load_all(config: Config) -> Loaded:
    """Configuration plus the content it points at. ContentRefused with every problem."""
    targets = {target.name: target for target in config.watched()}
    return Loaded(config, load(config, STEPS), targets)
