"""The report: one self-contained HTML file. Knows what is shown, not where it was recorded."""
