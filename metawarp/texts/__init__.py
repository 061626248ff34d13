"""Texts inside their template, and what frozen layers make of them, computed once and kept."""
