"""What holds for every test: tools `make setup` fetched are found, live tests are marked and come last."""

from __future__ import annotations

import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIVE = ROOT / "tests" / "live"

os.environ["PATH"] = f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools' / 'usr' / 'bin'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in tests/live is live; the quick tests speak first."""
    for item in items:
        if item.path.is_relative_to(LIVE):
            item.add_marker(pytest.mark.live)
    items.sort(key=lambda item: item.get_closest_marker("live") is not None)
