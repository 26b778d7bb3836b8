"""Where does a relative path of a configuration lead? To the folder of the file that gives it, wherever we start.

Before that was so, it led to the working directory: what is only there is still found there, and `check` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from responder.config import Config
from responder.located import Path as Place
from responder.model import Problem

FOLDERS = ("rules", "playbooks", "translations")
NOT_OURS = frozenset(("log_file",))
"""Of the server: it may be on another host."""
ALSO = frozenset(("known_hosts",))
FREE = frozenset(("labels", "match", "thresholds"))
"""Keys in these are the operator's own."""


def anchored(tree: dict[str, Any], file: Path) -> dict[str, Any]:
    """The plain tree of a configuration file with the paths of folders and secret files made absolute; `data_dir` is
    left as it is: what was kept would be left behind."""
    folder = file.absolute().parent
    out: dict[str, Any] = _walked(tree, lambda path: _found(path, folder))
    for section in FOLDERS:
        if isinstance(given := tree.get(section), list):
            out[section] = [_found(path, folder) for path in given]
    return out


def astray(config: Config) -> Iterator[Problem]:
    """Paths that are found in the working directory only: started elsewhere, for example by systemd, they are not."""
    source = config.places.source
    plain = source.root.plain() if source else None
    if source is None or not isinstance(plain, dict):
        return
    folder = Path(source.file).absolute().parent
    for place, given in _paths(plain, ()):
        if _found(given, folder) != str(folder / given) and not Path(given).is_absolute():
            what = f"{'.'.join(map(str, place))}: {given} is in the working directory, not beside this file"
            yield config.places.problem(place, what, f"the whole path: {Path(given).absolute()}")


def _found(given: Any, folder: Path) -> Any:
    if not isinstance(given, str) or not given:
        return given
    try:
        beside, here = folder / given, Path(given)
        return given if here.is_absolute() or (not beside.exists() and here.exists()) else str(beside)
    except (OSError, ValueError):  # a name too long, a NUL in it: whoever opens it says so
        return given


def _is_path(key: str) -> bool:
    return (key.endswith("_file") or key in ALSO) and key not in NOT_OURS


def _walked(tree: Any, into: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {
            key: into(value) if _is_path(key) else value if key in FREE else _walked(value, into)
            for key, value in tree.items()
        }
    return [_walked(item, into) for item in tree] if isinstance(tree, list) else tree


def _paths(tree: Any, at: Place) -> Iterator[tuple[Place, str]]:
    """Every path of the file, with its place."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, str) and _is_path(key):
                yield (*at, key), value
            elif at == () and key in FOLDERS and isinstance(value, list):
                yield from (((key, n), item) for n, item in enumerate(value) if isinstance(item, str))
            elif key not in FREE:
                yield from _paths(value, (*at, key))
    elif isinstance(tree, list):
        for number, item in enumerate(tree):
            yield from _paths(item, (*at, number))
