"""Adapters: the parameters that each task owns inside the frozen encoder, and how they enter it. One file each."""
