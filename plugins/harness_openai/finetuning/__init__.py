"""Hosted fine-tuning by OpenAI's API, or any server's that speaks it. Knows no task."""
