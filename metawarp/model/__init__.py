"""The WARP model: a template, soft tokens, and what is read of a text under them."""
