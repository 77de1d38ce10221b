"""Forms of rows: what their names mean, read into `Example`s and written back. Knows no file."""
