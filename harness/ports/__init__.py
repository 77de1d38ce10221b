"""Promises between the harness and its plugins: protocols, hooks, and the manager that keeps them."""
