"""Remembers: replies, runs, artifacts and the ledger, in one SQLite file."""
