"""`with` for what must be closed. Knows not what closing does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Closes itself at the end of a `with`, whatever happened in it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of threads and connections; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
