"""Copies image files into a few tar files with an index, for disks where opening files is slow.

The order of samples stays what the seed says: samples are read by their place in the shard, and
those of a batch are asked for together, so that the kernel fetches them at once. The shards are
ordinary tar files, which ``tar`` and webdataset read as well.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saccade.errors import StorageError
from saccade.train.decoding import file_bytes

SHARD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """Where a copy stands.

    Attributes:
        shard: number of the file.
        offset: of its first byte.
        size: in bytes.
        mtime_ns: of the original when it was copied.
    """

    shard: int
    offset: int
    size: int
    mtime_ns: int


@dataclass
class ShardReader:
    """Reads copies by the path of the original. Safe in threads and forked processes.

    Files that have changed since, or were never copied, are read where they are; of files that are
    gone the copy is read. That takes one question about each file, which is much less than opening
    it.
    """

    folder: Path
    entries: dict[str, Entry]
    _open: dict[int, int] = field(default_factory=dict)

    def __call__(self, path: Path) -> bytes:
        """The content of the file.

        Raises:
            DataError: it is neither in a shard nor where it was.
        """
        entry = self.entries.get(str(path))
        if entry is None or _changed(path, entry):
            return file_bytes(path)
        return os.pread(self._shard(entry.shard), entry.size, entry.offset)

    def expect(self, paths: Iterable[Path]) -> None:
        """Let the kernel begin to fetch these files."""
        for path in paths:
            entry = self.entries.get(str(path))
            if entry is not None:
                shard = self._shard(entry.shard)
                os.posix_fadvise(shard, entry.offset, entry.size, os.POSIX_FADV_WILLNEED)

    def _shard(self, number: int) -> int:
        if number not in self._open:
            self._open[number] = os.open(self.folder / _name(number), os.O_RDONLY)
        return self._open[number]


def _changed(path: Path, entry: Entry) -> bool:
    """Whether a file that is still there is another one than was copied."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (entry.size, entry.mtime_ns) != (status.st_size, status.st_mtime_ns)


def open_shards(folder: Path, files: Iterable[Path], limit: int = SHARD_BYTES) -> ShardReader:
    """Shards of ``files`` in ``folder``; written where they are not there yet or not up to date.

    Raises:
        StorageError: they cannot be written.
    """
    wanted = [path for path in dict.fromkeys(files) if path.is_file()]
    found = _index(folder)
    if not _fresh(found, wanted):
        try:
            found = _written(folder, wanted, limit)
        except OSError as error:
            raise StorageError(
                f"Shards cannot be written to '{folder}': {error.strerror or error}. Free room "
                "there, or train without the shards change."
            ) from error
    return ShardReader(folder, found)


def _fresh(entries: dict[str, Entry], files: list[Path]) -> bool:
    for path in files:
        entry = entries.get(str(path))
        if entry is None or _changed(path, entry):
            return False
    return True


def _index(folder: Path) -> dict[str, Entry]:
    try:
        document = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: Entry(*values) for name, values in document.items()}


def _written(folder: Path, files: list[Path], limit: int) -> dict[str, Entry]:
    """Write into a folder beside, and put it in place whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="shards-") as made:
        for number, group in enumerate(_groups(files, limit)):
            entries |= _shard(Path(made) / _name(number), number, group)
        document = {name: list(vars(entry).values()) for name, entry in entries.items()}
        (Path(made) / "index.json").write_text(json.dumps(document), encoding="utf-8")
        whole = Path(made) / "whole"
        whole.mkdir()
        for file in [*Path(made).glob("*.tar"), Path(made) / "index.json"]:
            file.rename(whole / file.name)
        if folder.exists():
            folder.rename(Path(made) / "old")
        whole.rename(folder)
    return entries


def _groups(files: list[Path], limit: int) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for path in files:
        length = path.stat().st_size
        if group and size + length > limit:
            yield group
            group, size = [], 0
        group.append(path)
        size += length
    yield group


def _shard(target: Path, number: int, files: list[Path]) -> dict[str, Entry]:
    entries = {}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for place, path in enumerate(files):
            status = path.stat()
            member = tarfile.TarInfo(f"{place:08d}{path.suffix.lower()}")
            member.size, member.mtime = status.st_size, int(status.st_mtime)
            with path.open("rb") as content:
                tar.addfile(member, content)
            # What was added ends here, filled up to whole blocks.
            blocks = -(-status.st_size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            offset = tar.offset - blocks
            entries[str(path)] = Entry(number, offset, status.st_size, status.st_mtime_ns)
    return entries


def _name(number: int) -> str:
    return f"{number:05d}.tar"
