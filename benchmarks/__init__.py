"""Experiments with metawarp: plans and their runner, reports, and studies. Not part of the installed package."""
