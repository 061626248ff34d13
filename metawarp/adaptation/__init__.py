"""The inner loop: from an init and the support texts of a task to its classifier."""
