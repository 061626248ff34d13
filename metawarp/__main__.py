"""`python -m metawarp` is `metawarp`."""

from metawarp.cli import main

main()
