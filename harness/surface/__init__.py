"""Shows: the command line, the pytest face, tables, the report."""
