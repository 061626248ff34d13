"""Experiments with metawarp: plans and their runner, reports and timings. Not part of the installed package."""
