"""Scores that were made elsewhere: readers, one a format, and the table that verdicts read."""
