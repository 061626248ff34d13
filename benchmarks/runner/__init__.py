"""The runner of plans: from a YAML file to measured cells and results."""
