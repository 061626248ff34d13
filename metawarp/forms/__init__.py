"""Forms of a prompt: what its numbers are, and how they enter the forward pass; one file each."""
