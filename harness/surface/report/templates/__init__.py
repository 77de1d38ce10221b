"""Package data of the report: a package, so that the wheel takes the files along."""
