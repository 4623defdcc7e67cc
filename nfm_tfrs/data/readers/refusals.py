"""What is said of files that cannot be read as tables."""

from pathlib import Path

import pyarrow as pa

# What Arrow raises of a damaged file; the last one is a name that is no UTF-8.
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)


def damaged_gzip(path: Path, error: Exception) -> ValueError:
    """Returns the error for a compressed file that is cut short, damaged or none.

    Args:
        path: The file.
        error: What decompressing it raised.
    """
    return ValueError(
        f"{path} is not a whole gzip file; it may be truncated or damaged. Write it again. ({_reason(error)})"
    )


def damaged_parquet(path: Path, error: Exception) -> ValueError:
    """Returns the error for a Parquet file that is cut short, damaged or none; see `damaged_gzip`."""
    return ValueError(f"{path} is not a whole Parquet file; it may be truncated. Write it again. ({_reason(error)})")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
