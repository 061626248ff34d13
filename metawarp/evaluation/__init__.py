"""Evaluation: accuracy over episodes, and baselines on the same episodes."""
