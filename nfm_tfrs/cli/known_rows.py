"""A warning where a model is used on the very files that it was trained on."""

from collections.abc import Sequence
from pathlib import Path

from nfm_tfrs.cli.terminal import show_warning
from nfm_tfrs.data.readers.table import find_files
from nfm_tfrs.runs.record import RunRecord


def warn_of_known_rows(record: RunRecord | None, data: Sequence[str], *, format: str | None = None) -> None:
    """Warns of files among the data that the run of a model trained or chose on.

    Args:
        record: The run's record; None where there is none, and nothing is known.
        data: The files that the model is used on.
        format: The files' format, where their suffix does not tell.
    """
    if record is None or record.source is None:
        return
    known: set[Path] = set()
    for source in (*record.source.data, *record.source.valid):
        try:
            known |= {path.resolve() for path in find_files(source, format=record.source.format)}
        except (OSError, ValueError):  # it is not there any more, or was named from another working directory
            continue
    both = [path for path in find_files(data, format=format) if path.resolve() in known]
    if both:
        more = f" and {len(both) - 1} more" if len(both) > 1 else ""
        show_warning(
            f"The model was trained or chosen on rows of {both[0]}{more}: it does better there than on new ones. The "
            "run's metrics.json has the metrics of its test rows; give a file of rows that it has not seen."
        )
