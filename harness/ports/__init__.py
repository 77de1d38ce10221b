"""Promises between harness and plugins: protocols, hooks, and the manager that keeps them."""
