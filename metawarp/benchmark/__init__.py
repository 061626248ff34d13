"""Tables of contenders over corpora and settings from one plan, cell by cell, and their report."""
