"""A run's folder: what training leaves behind."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.files import ROWS
from nfm_tfrs.runs.record import RunRecord

_KEPT = 64  # rows, on which an export is held against the model


def write_run(
    out: Path,
    model: Any,
    history: dict[str, list[float]],
    reports: Mapping[str, Any],
    record: RunRecord,
    rows: Any = None,
    members: Sequence[dict[str, list[float]]] = (),
) -> None:
    """Writes a trained model, its features, metrics, record and learning curves into a folder.

    Args:
        out: The folder; made if it is not there.
        model: A `RankingModel`.
        history: The metrics of each epoch.
        reports: The exact metrics, part by part, and their intervals.
        record: What the run was told and made from.
        rows: An Arrow table of rows that the model was not trained on, of which the first are kept, with the columns
            that it reads; nothing is kept where one of these is missing.
        members: The history of each training whose mean the model is; none without such.
    """
    # Imported here, as in open_run: the command line imports this module, and --help should not wait for TensorFlow.
    from nfm_tfrs.runs.curves import draw_curves

    out.mkdir(exist_ok=True)
    model.save(out / "model.keras")
    (out / "features.json").write_text(model.features.to_json() + "\n", encoding="utf-8")
    told = {**reports, "history": history, **({"members": list(members)} if members else {})}
    (out / "metrics.json").write_text(json.dumps(with_nulls(told), indent=2) + "\n")
    (out / "run.json").write_text(json.dumps(record.to_json(), indent=2) + "\n")
    if rows is not None and {*model.features.columns} <= {*rows.column_names}:
        from pyarrow import parquet

        parquet.write_table(rows.select(list(model.features.columns)).slice(0, _KEPT), out / ROWS)
    shown = ("loss", "auc", "log_loss", "rmse", "mae")
    drawn = [name for name in shown if f"val_{name}" in history]
    loss, log_loss = history.get("loss", [0.0]), history.get("log_loss", [])
    if "log_loss" in drawn and len(loss) == len(log_loss) and np.allclose(loss, log_loss, rtol=1e-3):
        drawn.remove("loss")  # it is the log loss, but where a model adds to it
    if drawn:  # a training on all rows is not judged on the way
        draw_curves(members or [history], out / "curves.png", drawn)


def open_run(path: Path, *, trust: bool = False) -> tuple[Any, RunRecord | None]:
    """Returns the model of a run's folder, or of a model file, and the record of its run; None without a run.

    Args:
        path: A run's folder, or a model file.
        trust: Whether to import and run whatever the model's file names; see `load_model`.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: The model or the record is none; see `load_model` and `RunRecord.from_file`.
    """
    from nfm_tfrs.runs.saving import load_model

    record, _ = read_run(path)
    return load_model(_model_file(path), compile=False, trust=trust), record


def read_run(path: Path) -> tuple[RunRecord | None, FeatureSpec | None]:
    """Returns the record and the features of the run that a model is of, both None without a run.

    They lie beside the model, so that what does not fit them is found without TensorFlow.

    Args:
        path: A run's folder, or a model file.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: The record or the features are none.
    """
    path = _model_file(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}. Check the path.")
    record, features = path.parent / "run.json", path.parent / "features.json"
    if not record.exists():
        return None, None
    return RunRecord.from_file(record), read_features(features) if features.exists() else None


def read_features(path: Path) -> FeatureSpec:
    """Returns the features of a features.json.

    Raises:
        ValueError: It is none.
    """
    try:
        return FeatureSpec.from_json(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _model_file(path: Path) -> Path:
    return path / "model.keras" if (path / "model.keras").exists() else path


def with_nulls(values: Any) -> Any:
    """Returns the values with null for NaN, which JSON does not know."""
    if isinstance(values, dict):
        return {name: with_nulls(value) for name, value in values.items()}
    if isinstance(values, list):
        return [with_nulls(value) for value in values]
    return None if values != values else values
