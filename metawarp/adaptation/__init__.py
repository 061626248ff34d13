"""The inner loop: from an init and the support texts of tasks to adapted parameters."""
