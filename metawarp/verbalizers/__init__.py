"""Verbalizers: how classes that were never seen get an embedding, and how features become logits. One file each."""
