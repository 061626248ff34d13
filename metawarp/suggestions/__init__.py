"""Which texts of a pool are most worth labelling."""
