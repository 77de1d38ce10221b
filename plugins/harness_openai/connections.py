"""The connections of `harness_http`, under the name that this plugin gave them first."""

from harness_http.connections import Connections

__all__ = ["Connections"]
