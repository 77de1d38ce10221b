"""Thinks: prompts, statistics, verdicts, parity, advice. Touches nothing outside its arguments."""
