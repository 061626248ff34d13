"""Accuracy over episodes, and the baselines on the same ones."""
