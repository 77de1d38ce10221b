"""The keys of `harness_http`, under the name that this plugin gave them first."""

from harness_http.keys import HIDDEN, Key, read_key

__all__ = ["HIDDEN", "Key", "read_key"]
