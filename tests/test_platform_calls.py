"""Calls that not every operating system knows are made where it does, and left out with a warning elsewhere."""

import mmap
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nfm_tfrs import platform_calls
from nfm_tfrs.data.cache import cached
from nfm_tfrs.data.parts import EncodedPart, Prepared
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import NumericFeature
from nfm_tfrs.features.spec import FeatureSpec


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_calls.sys, "platform", "win32")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("text")
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_files_state_is_its_size_inode_and_times(file: Path) -> None:
    found = file.stat()
    assert platform_calls.file_state(file) == [4, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    before = platform_calls.file_state(file)
    file.write_text("tex2")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert platform_calls.file_state(file) != before


@pytest.mark.usefixtures("windows")
def test_a_files_state_has_no_time_of_the_inode_on_windows(file: Path) -> None:
    found = file.stat()
    with pytest.warns(UserWarning, match="^Windows keeps no time of a change that programs cannot set: "):
        assert platform_calls.file_state(file) == [4, found.st_ino, found.st_mtime_ns]


def test_a_file_is_written_through_where_the_system_can(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(platform_calls.os, "fsync", lambda number: written.append(number))
    with file.open("r+b") as opened:
        platform_calls.write_through(opened)
        assert written == [opened.fileno()]


def test_without_fsync_a_warning_says_what_may_be_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(platform_calls.os, "fsync")
    with file.open("r+b") as opened, pytest.warns(UserWarning, match="^This system has no fsync: "):
        platform_calls.write_through(opened)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_the_names_in_a_folder_are_written_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(platform_calls.os, "fsync", lambda number: written.append(os.fstat(number).st_ino))
    platform_calls.write_folder_through(tmp_path)
    assert written == [tmp_path.stat().st_ino]


def test_a_folder_that_knows_no_fsync_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError("Invalid argument")

    monkeypatch.setattr(platform_calls.os, "fsync", fsync)
    platform_calls.write_folder_through(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_the_end_of_the_parent_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 1])
    monkeypatch.setattr(platform_calls.os, "getppid", lambda: next(parents))
    wait = platform_calls.parent_watch(7)
    assert wait is not None
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert list(parents) == []


@pytest.mark.usefixtures("windows")
def test_on_windows_a_worker_is_told_to_be_ended_by_hand() -> None:
    with pytest.warns(UserWarning, match="^Windows does not tell a worker that its chief has ended: "):
        assert platform_calls.parent_watch(7) is None


def test_an_entry_of_a_cache_is_opened_after_the_renaming_where_files_in_use_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_calls, "renames_open_files", lambda: False)
    encoder = FeatureEncoder(FeatureSpec([NumericFeature("price")]))
    part = EncodedPart(encoder.encode_arrays({"price": pa.array([1.0, 2.0])}))
    opened = cached(tmp_path / "cache", {}, {}, lambda: Prepared(encoder, {}, {"train": part}))
    numbers = opened.train.columns["encoded/numbers"]
    assert Path(numbers.filename).parent in set((tmp_path / "cache").iterdir())
    assert ".unfinished-" not in str(numbers.filename)


def huge_kilobytes() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("AnonHugePages")))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc")
def test_memory_lies_on_huge_pages_where_the_system_says_so() -> None:
    memory = mmap.mmap(-1, 10 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # NumPy asks for huge ones itself
    memory.write(b"1" * len(memory))
    before = huge_kilobytes()
    if platform_calls.use_huge_pages(memoryview(memory)):
        assert huge_kilobytes() >= before + 4 * 2048  # but for the ends
    assert memory[:] == b"1" * len(memory)


def test_memory_without_a_whole_huge_page_stays_as_it_is() -> None:
    assert not platform_calls.use_huge_pages(memoryview(np.ones(100)))


@pytest.mark.usefixtures("windows")
def test_there_are_no_huge_pages_elsewhere() -> None:
    assert not platform_calls.use_huge_pages(memoryview(np.ones(10 * 2**20)))


def test_a_system_that_does_not_tell_its_memory_has_none_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (platform_calls.memory_bytes() or 0) > 2**20
    monkeypatch.delattr(platform_calls.os, "sysconf")
    assert platform_calls.memory_bytes() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512_bf16 fma\n", True),
        ("model name : amx_bf16\nflags : fpu amx_bf16\n", True),
        ("model name : amx_bf16\nflags : fpu avx512f\n", False),
        ("Features : fp asimd bf16\n", False),
        (None, False),
    ],
)
def test_a_processor_multiplies_bfloat16_where_linux_lists_it(
    monkeypatch: pytest.MonkeyPatch, text: str | None, expected: bool
) -> None:
    def read(path: Path) -> str:
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert platform_calls.multiplies_bfloat16() is expected
