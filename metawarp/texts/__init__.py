"""Texts as tensors: templates, token ids, tasks, and what frozen layers compute of the bare texts."""
