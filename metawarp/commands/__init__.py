"""The commands of the command line, one function each for their options and for what they do."""
