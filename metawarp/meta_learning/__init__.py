"""Meta-learning methods: how T tasks change the init that they start from. One file each."""
