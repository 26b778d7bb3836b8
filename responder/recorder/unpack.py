"""How does the recorder get into a vLLM it cannot be installed into (a container image)? As a folder on PYTHONPATH.

The folder holds this package's few files and the metadata by which vLLM finds plugins; nothing else of the responder
and none of its dependencies.
"""

from __future__ import annotations

from pathlib import Path

from responder import __version__

ENTRY_POINTS = """[vllm.stat_logger_plugins]
responder_recorder = responder.recorder.plugin:StepRecorder

[vllm.general_plugins]
responder_stacks = responder.recorder.stacks:register
"""
NAME = "vllm-responder-recorder"
FILES = ("__init__.py", "layout.py", "plugin.py", "stacks.py", "steps.py", "writer.py")


def unpack(folder: Path) -> Path:
    """Write the recorder into `folder` (made if missing, older files replaced) and return it. OSError."""
    package = folder / "responder"
    (package / "recorder").mkdir(parents=True, exist_ok=True)
    package.joinpath("__init__.py").write_text(f'"""Part of vllm-responder."""\n\n__version__ = "{__version__}"\n')
    for name in FILES:
        (package / "recorder" / name).write_text((Path(__file__).parent / name).read_text())
    info = folder / f"{NAME.replace('-', '_')}-{__version__}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {__version__}\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
