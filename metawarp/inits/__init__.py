"""Learned initializations: saving, loading, describing them, and those that ship (one folder each)."""
