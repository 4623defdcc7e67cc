"""A run's folder: what training leaves behind."""

import json
from pathlib import Path
from typing import Any

from nfm_tfrs.runs.record import RunRecord


def write_run(
    out: Path,
    model: Any,
    history: dict[str, list[float]],
    reports: dict[str, dict[str, float]],
    record: RunRecord,
) -> None:
    """Writes a trained model, its features, metrics, record and learning curves into a folder.

    Args:
        out: The folder; made if it is not there.
        model: A `RankingModel`.
        history: The metrics of each epoch.
        reports: The exact metrics, part by part.
        record: What the run was told and made from.
    """
    # Imported here, as in open_run: the command line imports this module, and --help should not wait for TensorFlow.
    from nfm_tfrs.runs.curves import draw_curves

    out.mkdir(exist_ok=True)
    model.save(out / "model.keras")
    (out / "features.json").write_text(model.features.to_json() + "\n", encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(plain({**reports, "history": history}), indent=2) + "\n")
    (out / "run.json").write_text(json.dumps(record.to_json(), indent=2) + "\n")
    shown = ("loss", "auc", "log_loss", "rmse", "mae")
    drawn = [name for name in shown if f"val_{name}" in history]
    if drawn:  # a training on all rows is not judged on the way
        draw_curves(history, out / "curves.png", drawn)


def open_run(path: Path) -> tuple[Any, RunRecord | None]:
    """Returns the model of a run's folder, or of a model file, and the record of its run; None without a run.

    Raises:
        FileNotFoundError: There is no model.
        ValueError: The model or the record is none; see `load_model` and `RunRecord.from_file`.
    """
    from nfm_tfrs.runs.saving import load_model

    if (path / "model.keras").exists():
        path = path / "model.keras"
    beside = path.parent / "run.json"
    return load_model(path, compile=False), RunRecord.from_file(beside) if beside.exists() else None


def plain(values: Any) -> Any:
    """Returns the values with null for NaN, which JSON does not know."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    if isinstance(values, list):
        return [plain(value) for value in values]
    return None if values != values else values
