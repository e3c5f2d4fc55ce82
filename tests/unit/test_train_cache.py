"""The cache of decoded samples, and shards."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.errors import DataError, StorageError
from saccade.train.caching import SampleCache, signature_of
from saccade.train.sample_source import fill
from saccade.train.samples import Samples
from saccade.train.shards import open_shards

ROOM = 1 << 20


def sample(number: int) -> tuple[Any, ...]:
    pixels = np.random.default_rng(number).integers(0, 256, (9 + number, 11, 3), dtype=np.uint8)
    return pixels, number, {"name": f"{number}"}


def same(a: Any, b: Any) -> bool:
    return np.array_equal(a[0], b[0]) and a[1:] == b[1:]


@pytest.fixture(params=["memory", "disk"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "deep" / "a.samples" if request.param == "disk" else None


def one() -> int:
    return 1


def test_samples_come_back(path: Path | None) -> None:
    cache = SampleCache(5, ROOM, path)
    assert cache.get(0, one) is None and cache.missing == [0, 1, 2, 3, 4]
    for number in range(4):
        assert cache.put(number, sample(number), 1)
    assert all(same(cache.get(number, one), sample(number)) for number in range(4))
    assert cache.get(4, one) is None and cache.missing == [4]


def test_a_copy_may_be_written_to_and_a_view_may_not(path: Path | None) -> None:
    cache = SampleCache(1, ROOM, path)
    cache.put(0, sample(0), 1)
    cache.get(0, one)[0][:] = 0
    assert same(cache.get(0, one), sample(0))
    with pytest.raises(ValueError, match="read-only"):
        cache.get(0, one, copied=False)[0][:] = 0


def test_a_full_cache_says_so_and_keeps_what_it_has(path: Path | None) -> None:
    cache = SampleCache(3, 1000, path)
    assert cache.put(0, sample(0), 1)
    assert not cache.put(1, np.zeros(2000, np.uint8), 1)
    assert same(cache.get(0, one), sample(0)) and cache.get(1, one) is None


def test_changed_files_make_a_sample_new(path: Path | None) -> None:
    cache = SampleCache(1, ROOM, path)
    cache.put(0, sample(0), 1)
    assert cache.get(0, lambda: 2) is None
    cache.put(0, sample(3), 2)
    assert same(cache.get(0, lambda: 2), sample(3))


def test_the_signature_is_of_files_and_of_what_stands_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"123")
    first = signature_of((file, 1))
    assert first == signature_of((file, 1)) != signature_of((file, 2))
    os.utime(file, ns=(1, 1))
    assert signature_of((file, 1)) != first
    assert signature_of(np.zeros(9)) == signature_of(np.zeros(9)) != signature_of(np.ones(9))
    # Tensors are pickled with their addresses, which say nothing.
    kept = [torch.zeros(3, dtype=torch.bfloat16) for _ in range(2)]
    assert signature_of(kept[0]) == signature_of(kept[1]) != signature_of(torch.ones(3))


class Counted:
    """Arrays, of which one is broken; notes which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        if index == 3:
            raise ValueError("broken")
        return np.full(1000, index, np.uint8), index


def test_a_cache_is_filled_once_although_it_stays_incomplete() -> None:
    samples = Samples(Counted(), None, cache=SampleCache(5, ROOM))
    fill(samples)
    assert samples.cache is not None and samples.cache.missing == [3]
    samples.dataset.asked.clear()
    fill(samples)
    assert samples.dataset.asked == []


def test_filling_ends_where_there_is_no_room() -> None:
    samples = Samples(Counted(), None, cache=SampleCache(5, 2500))
    fill(samples)
    assert set(samples.dataset.asked) == {0, 1, 2}


def _put_many(cache: SampleCache, first: int) -> None:
    for number in range(first, 40, 2):
        cache.put(number, sample(number), 1)


def test_forked_processes_fill_one_cache(path: Path | None) -> None:
    cache = SampleCache(40, ROOM, path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_put_many, args=(cache, first)) for first in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert cache.missing == []
    assert all(same(cache.get(number, one), sample(number)) for number in range(40))


def test_another_process_finds_what_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "a.samples"
    SampleCache(3, ROOM, file).put(1, sample(1), 7)
    again = SampleCache(3, ROOM, file)
    assert same(again.get(1, lambda: 7), sample(1)) and again.missing == [0, 2]
    assert SampleCache(4, ROOM, file).missing == [0, 1, 2, 3]  # of another data set


def test_data_that_never_reached_the_disk_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "a.samples"
    cache = SampleCache(3, ROOM, file)
    cache.put(0, sample(0), 1)
    offset = int(cache._rows[0][1])
    with file.open("r+b") as raw:
        raw.seek(offset + 200)
        raw.write(bytes(50))
    assert SampleCache(3, ROOM, file).get(0, one) is None


# One process looks for the file, another makes and fills it, and then the first one opens it.
LATE = """
import pathlib, sys
from saccade.train.caching import SampleCache
pathlib.Path.exists = lambda self: False
cache = SampleCache(3, 100_000, pathlib.Path(sys.argv[1]))
print(3 - len(cache.missing))
"""
EARLY = """
import pathlib, subprocess, sys
import numpy as np
from saccade.train.caching import SampleCache
file, late = sys.argv[1:]
cache = SampleCache(3, 100_000, pathlib.Path(file))
cache.put(1, np.arange(5000), 7)
print(subprocess.run([sys.executable, "-c", late, file], check=True, capture_output=True).stdout)
assert (cache.get(1, lambda: 7) == np.arange(5000)).all()
"""


def test_a_process_that_comes_late_empties_no_cache_that_another_has_mapped(
    tmp_path: Path,
) -> None:
    """In processes of their own: reading a mapped file that was emptied ends the process."""
    command = [sys.executable, "-c", EARLY, str(tmp_path / "a.samples"), LATE]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1" in ended.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cache of samples cannot be kept"):
        SampleCache(3, ROOM, tmp_path / "file" / "a.samples")


def files(folder: Path, count: int = 7) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.JPG").write_bytes(bytes([number]) * (100 * number + 3))
    return sorted(folder.iterdir())


def test_shards_hold_every_file(tmp_path: Path) -> None:
    found = files(tmp_path / "images")
    shards = open_shards(tmp_path / "run" / "shards", found, limit=700)
    names = sorted(path.name for path in (tmp_path / "run" / "shards").glob("*.tar"))
    assert len(names) > 1
    shards.expect(found)
    assert all(shards(path) == path.read_bytes() for path in found)
    with tarfile.open(tmp_path / "run" / "shards" / names[0]) as tar:
        member = tar.getmembers()[0]
        content = tar.extractfile(member)
        assert content is not None and content.read() == found[0].read_bytes()


def test_shards_are_written_once_and_again_when_files_change(tmp_path: Path) -> None:
    found, folder = files(tmp_path / "images"), tmp_path / "shards"
    open_shards(folder, found)
    written = (folder / "index.json").stat().st_mtime_ns
    open_shards(folder, found)
    assert (folder / "index.json").stat().st_mtime_ns == written
    found[0].write_bytes(b"other")
    assert open_shards(folder, found)(found[0]) == b"other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "shards"]


def test_what_is_in_no_shard_is_read_where_it_is(tmp_path: Path) -> None:
    found = files(tmp_path / "images")
    shards = open_shards(tmp_path / "shards", found[:2])
    assert shards(found[5]) == found[5].read_bytes()
    with pytest.raises(DataError, match="absent"):
        shards(tmp_path / "absent.jpg")


def test_a_file_that_changes_while_shards_are_open_is_read_where_it_is(tmp_path: Path) -> None:
    found = files(tmp_path / "images")
    shards = open_shards(tmp_path / "shards", found)
    before = found[3].read_bytes()
    found[2].write_bytes(b"other, and of another length")
    assert shards(found[2]) == b"other, and of another length"
    os.utime(found[4], ns=(1, 1))
    assert shards(found[4]) == found[4].read_bytes()
    found[3].unlink()
    assert shards(found[3]) == before
