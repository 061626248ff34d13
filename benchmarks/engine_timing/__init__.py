"""The engine timing: its cases, and what it measures."""
