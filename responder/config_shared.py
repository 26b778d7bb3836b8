"""What may be said about what several replicas and agents share?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic import model_validator as validates

from responder.config_values import HttpUrl, Part


class S3Part(Part):
    """A bucket of S3, or of anything that speaks it. Without keys: environment or instance role, as for any client."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]*$")] = "responder"
    endpoint: HttpUrl | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None


class ArtifactsPart(Part):
    """Where incident folders and captures lie that several replicas and agents share: `folder:` or `s3:`."""

    folder: Path | None = None
    s3: S3Part | None = None

    @validates(mode="after")
    def _one(self) -> ArtifactsPart:
        if (self.folder is None) == (self.s3 is None):
            raise ValueError("artifacts: give either `folder:` (one that all replicas and agents mount) or `s3:`")
        return self


class AgentPart(Part):
    """What a capture agent may do on its node beyond the shipped steps."""

    commands: bool = False
    """Whether playbooks' own `command` steps run here: who can write to the database could then run programs here."""
