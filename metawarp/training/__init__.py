"""Meta-training: from corpora to an init, step by step, with everything that a run leaves in its folder."""
