"""Thinks: prompts, splits, statistics, verdicts, parity. Touches nothing: no clock, disk, network, print or unseeded randomness."""
