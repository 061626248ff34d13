"""Learned initializations: creating, saving, loading and sharing them; the ones that ship have a folder each."""
