"""How many labels a strategy needs that chooses which texts get labelled."""
