"""A run's folder: what training leaves behind."""

import json
from pathlib import Path
from typing import Any


def write_run(
    out: Path,
    model: Any,
    history: dict[str, list[float]],
    reports: dict[str, dict[str, float]],
    settings: dict[str, Any],
) -> None:
    """Writes a trained model, its features, metrics, settings and learning curves into a folder.

    Args:
        out: The folder; made if it is not there.
        model: A `RankingModel`.
        history: The metrics of each epoch.
        reports: The exact metrics, part by part.
        settings: What the run was told; `label` among it.
    """
    # Imported here, as in open_run: the command line imports this module, and --help should not wait for TensorFlow.
    from nfm_tfrs.runs.curves import draw_curves

    out.mkdir(exist_ok=True)
    model.save(out / "model.keras")
    (out / "features.json").write_text(model.features.to_json() + "\n", encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(plain({**reports, "history": history}), indent=2) + "\n")
    (out / "run.json").write_text(json.dumps(settings, indent=2) + "\n")
    shown = ("loss", "auc", "log_loss", "rmse", "mae")
    draw_curves(history, out / "curves.png", [name for name in shown if f"val_{name}" in history])


def open_run(path: Path) -> tuple[Any, dict[str, Any]]:
    """Returns the model of a run's folder, or of a model file, and the settings of its run (none without a run)."""
    from nfm_tfrs.runs.saving import load_model

    if (path / "model.keras").exists():
        path = path / "model.keras"
    beside = path.parent / "run.json"
    return load_model(path, compile=False), json.loads(beside.read_text()) if beside.exists() else {}


def plain(values: Any) -> Any:
    """Returns the values with null for NaN, which JSON does not know."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    if isinstance(values, list):
        return [plain(value) for value in values]
    return None if values != values else values
