"""Frozen language models: loading them, and reading them layer by layer."""
