"""What holds for tests of traces: no example is timed (a loaded machine is not a failure)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("traces", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.load_profile("traces")
