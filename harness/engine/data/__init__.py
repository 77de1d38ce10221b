"""Data in any form: read as `Example`s, linted, split, made, written. Knows no verdict."""
