"""A full disk is one line that names what could not be written."""

import errno
from pathlib import Path

import pytest

from nfm_tfrs.full_disk import FullDiskError, naming
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.runs.files import write_text, writing

FULL = "No space left on device"
ERRORS = {
    "the system's": OSError(errno.ENOSPC, FULL),
    "of a share": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "Arrow's": OSError(f"[Errno 28] Error writing bytes to file. Detail: [errno 28] {FULL}"),
    "HDF5's": OSError(f"[Errno 28] Unable to synchronously flush file (errno = 28, error message = '{FULL}')"),
    "TensorFlow's of a share": tf.errors.ResourceExhaustedError(None, None, "/x/checkpoint; Disk quota exceeded"),
    "TensorFlow's": tf.errors.ResourceExhaustedError(None, None, f"/x/weights.tempstate; {FULL}"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_a_full_disk_names_the_output(error, tmp_path):
    out = tmp_path / "predictions.parquet"

    def write():
        with writing(out, overwrite=False) as file:
            file.write_text("half")
            raise error

    with pytest.raises(
        FullDiskError, match=f"^The disk is full: {out} cannot be written. Make room, and start again.$"
    ):
        write()
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_path_is_named_and_other_errors_are_as_they_were(tmp_path):
    with pytest.raises(FullDiskError, match=r"^The disk is full: weights cannot"), naming("run"), naming("weights"):
        raise ERRORS["the system's"]
    with pytest.raises(PermissionError, match="not yours"), naming("run"):
        raise PermissionError(errno.EACCES, "not yours")
    with pytest.raises(ValueError, match=r"^The cache x cannot be written"), naming("run"):
        raise ValueError(f"The cache x cannot be written: {FULL}.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
def test_a_device_that_is_full_is_named(tmp_path, monkeypatch):
    def write(path: Path, text: str, encoding: str) -> None:
        with open("/dev/full", "w", encoding=encoding) as file:
            file.write(text)

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(FullDiskError, match=f"{tmp_path / 'best.json'} cannot be written"):
        write_text(tmp_path / "best.json", "{}")
