"""Decoded samples kept in memory that loader workers share, or in a file that is mapped into it.

One table with a row per sample, and one region of data that only grows. A row is written after
its data, so that a process that was killed leaves room wasted and never half a sample; rows that
an earlier process wrote are checked against their checksum before they are used for the first
time. Each row holds a signature of what its sample came from, image files and labels, and is made
again when that has changed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import mmap
import os
import pickle
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import StorageError
from saccade.train.decoding import is_image

_MAGIC = b"saccade samples 2"
_HEADER = 4096
# Columns of the table: 0 where there is nothing, else 1 + checksum; then where it stands.
_STATE, _OFFSET, _LENGTH, _SIGNATURE = range(4)
_ALIGN = 64


class SampleCache:
    """Samples by index. Safe to use from several threads and from forked processes.

    Args:
        count: of the samples.
        capacity: bytes that their data may take. They are not taken before they are needed.
        path: of the file; None keeps them in memory.

    Attributes:
        full: a sample found no room.
        was_filled: everything was offered to it in this process; what is missing cannot be kept.

    Raises:
        StorageError: the file cannot be made.
    """

    def __init__(self, count: int, capacity: int, path: Path | None = None) -> None:
        self._count = count
        self._data = _HEADER + -(-count * 32 // _ALIGN) * _ALIGN
        self._size = self._data + capacity
        self._thread_lock = threading.Lock()
        self.full = self.was_filled = False
        try:
            self._file = self._opened(path)
        except OSError as error:
            raise StorageError(
                f"The cache of samples cannot be kept in '{path}': {error.strerror or error}. "
                "Free room there, or train without the cache change."
            ) from error
        self._trusted: set[int] = set()

    def _opened(self, path: Path | None) -> Any:
        if path is None:
            # Locks need a file; pages of the map itself are in no file.
            self._lock_file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
            self._map = mmap.mmap(-1, self._size)
            self._look()
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        # Never emptied here: another process may have made and mapped it a moment ago.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self._lock_file = file
        with self._locked():
            head = _MAGIC + struct.pack("<q", self._count)
            known = os.pread(file.fileno(), len(head), 0) == head
            self._size = max(self._size, os.fstat(file.fileno()).st_size)
            if not known:
                os.ftruncate(file.fileno(), 0)
            os.ftruncate(file.fileno(), self._size)
            if not known:
                # The table is written through the map, where a full disk would be a crash.
                os.posix_fallocate(file.fileno(), 0, self._data)
                os.pwrite(file.fileno(), head, 0)
            self._map = mmap.mmap(file.fileno(), self._size)
            self._look()
        return file

    def _look(self) -> None:
        self._end = np.frombuffer(self._map, np.int64, 1, 64)
        self._rows = np.frombuffer(self._map, np.int64, self._count * 4, _HEADER).reshape(-1, 4)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # lockf tells processes apart, and forked ones too; threads it does not.
        with self._thread_lock:
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN)

    @property
    def filled(self) -> int:
        """Samples in it."""
        return int(np.count_nonzero(self._rows[:, _STATE]))

    @property
    def missing(self) -> list[int]:
        """Samples that are not in it."""
        return [int(index) for index in np.flatnonzero(self._rows[:, _STATE] == 0)]

    def get(self, index: int, signature: Callable[[], int], *, copied: bool = True) -> Any:
        """The sample, or None where it is not there or what it came from has changed since.

        Args:
            index: of the sample.
            signature: of what it comes from now; asked once per sample and process.
            copied: arrays are copies that may be written to; else read-only views of the cache.
        """
        state, offset, length, signed = self._rows[index].tolist()
        if state == 0:
            return None
        view = memoryview(self._map)[offset : offset + length]
        if index not in self._trusted:
            if signed != signature() or state != 1 + zlib.crc32(view):
                return None
            self._trusted.add(index)
        return _unpacked(view, copied)

    def put(self, index: int, value: Any, signature: int) -> bool:
        """Keep a sample; False where there is no room, or it cannot be kept."""
        packed = _packed(value)
        length = sum(len(part) for part in packed)
        with self._locked():
            offset = max(int(self._end[0]), self._data)
            if offset + length > self._size:
                self.full = True
                return False
            self._end[0] = offset + -(-length // _ALIGN) * _ALIGN
        if not self._write(offset, packed):
            self.full = True
            return False
        checksum = 0
        for part in packed:
            checksum = zlib.crc32(part, checksum)
        with self._locked():
            row = self._rows[index]
            row[_STATE] = 0
            row[_OFFSET], row[_LENGTH], row[_SIGNATURE] = offset, length, signature
            row[_STATE] = 1 + checksum
        return True

    def _write(self, offset: int, parts: list[Any]) -> bool:
        if self._file is None:
            for part in parts:
                self._map[offset : offset + len(part)] = part
                offset += len(part)
            return True
        try:
            for part in parts:
                if os.pwrite(self._file.fileno(), part, offset) != len(part):
                    return False
                offset += len(part)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise
        return True


def signature_of(sample: Any) -> int:
    """Of a sample as the data set gives it.

    Image files count by their names, sizes and times of change; all beside them, such as labels
    and arrays, by what it holds.
    """
    head, arrays = io.BytesIO(), []  # type: io.BytesIO, list[pickle.PickleBuffer]
    _Signing(head, protocol=5, buffer_callback=arrays.append).dump(sample)
    checksum = zlib.crc32(head.getbuffer())
    for array in arrays:
        checksum = zlib.crc32(array.raw(), checksum)
    return checksum


class _Signing(pickle.Pickler):
    """Writes of files whether they are the same, and of tensors not where they stand."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Path) and is_image(value):
            status = value.stat()
            return str, (f"{value}|{status.st_size}|{status.st_mtime_ns}",)
        import torch

        if isinstance(value, torch.Tensor):
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            return tuple, ((str(value.dtype), tuple(value.shape), content.numpy()),)
        return NotImplemented


def _packed(value: Any) -> list[Any]:
    """A pickle and the arrays beside it, each where processors like data to begin."""
    arrays: list[Any] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    raw = [array.raw() for array in arrays]
    lengths = struct.pack(f"<{2 + len(raw)}q", len(raw), len(head), *map(len, raw))
    parts: list[Any] = [_padded(lengths + head)]
    for array in raw:
        parts.append(array)
        if len(array) % _ALIGN:
            parts.append(bytes(_ALIGN - len(array) % _ALIGN))
    return parts


def _unpacked(view: memoryview, copied: bool) -> Any:
    count, head = struct.unpack_from("<2q", view)
    lengths = struct.unpack_from(f"<{count}q", view, 16)
    start = 16 + 8 * count
    place = -(-(start + head) // _ALIGN) * _ALIGN
    arrays: list[Any] = []
    for length in lengths:
        part = view[place : place + length]
        arrays.append(bytearray(part) if copied else part.toreadonly())
        place += -(-length // _ALIGN) * _ALIGN
    return pickle.loads(view[start : start + head], buffers=arrays)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
