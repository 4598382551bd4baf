"""`wsgi.file_wrapper`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# The bytes that are read from a file at once, unless the application says otherwise.
BLOCK_SIZE = 64 * 1024


class FileWrapper:
    """An iterable of the rest of a file (PEP 3333, "Optional Platform-Specific File Handling")."""

    def __init__(self, file: Any, block_size: int = BLOCK_SIZE) -> None:
        self._file = file
        self._block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_size):
            yield block

    def close(self) -> None:
        """Closes the file, if it can be closed."""
        if hasattr(self._file, "close"):
            self._file.close()
