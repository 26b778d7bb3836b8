"""The main job once through, on this machine: `make demo`."""
