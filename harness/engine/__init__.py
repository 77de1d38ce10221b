"""Acts: evaluate, climb the ladder, tune, release. No printing, SQL or argv."""
