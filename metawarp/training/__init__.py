"""The outer loop: from corpora to an init, step by step, with all that a run leaves in its folder."""
