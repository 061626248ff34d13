"""An init for tasks of one's own: the scikit-learn classifier and what the command line does with it."""
