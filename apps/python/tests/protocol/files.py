"""File-like objects for `wsgi.file_wrapper`."""

from __future__ import annotations

import io

from probe import Probe


def file_content() -> bytes:
    """The content of the files: 200,000 bytes without a period of a power of two."""
    return b"".join(b"line %d\n" % number for number in range(20_000))[:200_000]


class File(io.BytesIO):
    """A file-like object without a descriptor, which records reads and `close`."""

    def __init__(self, probe: Probe, data: bytes) -> None:
        super().__init__(data)
        self.probe = probe

    def read(self, size: int | None = -1) -> bytes:
        self.probe.record("read", size=size)
        return super().read(size)

    def close(self) -> None:
        self.probe.record("close")
        super().close()


class OnlyRead:
    """A file-like object that has `read` alone."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read
