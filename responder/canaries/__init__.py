"""Pinned canaries: tiny prompts whose answers were once called good, asked again and compared."""
