"""Studies with a script of their own: engines, data types, latency, ranking of inits."""
