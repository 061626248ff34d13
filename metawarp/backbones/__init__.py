"""Frozen language models: loading them, and computing their layers one by one. One file per family."""
