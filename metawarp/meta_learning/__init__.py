"""Meta-gradients: how what tasks need moves what they start from."""
