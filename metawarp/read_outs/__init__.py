"""Read-outs: what is read of a text under a task's parameters."""
