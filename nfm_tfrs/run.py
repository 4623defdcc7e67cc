"""A run's folder: what training leaves behind, written whole or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

FILES = ("model.keras", "features.json", "metrics.json", "run.json", "curves.png")


def check_output(out: Path, overwrite: bool) -> None:
    """Checks that `out`, a file or folder, may be written.

    Raises:
        FileExistsError: It exists, and replacing was not asked for; or it is a folder that is not a run's.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")
    if out.is_dir() and any(out.iterdir()) and not (out / "run.json").exists():
        raise FileExistsError(f"{out} is a folder that holds other things than a run. Choose another --out.")


def unfinished(out: Path) -> Path:
    """Returns where to write until all of `out` is there: beside it, so that the last step is a rename."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.with_name(f".{out.name}.unfinished-{os.getpid()}")


def finish(written: Path, out: Path) -> None:
    """Puts what was written in the place of `out`."""
    if out.is_dir():
        replaced = out.with_name(f"{written.name}-replaced")
        out.rename(replaced)
        written.rename(out)
        shutil.rmtree(replaced)
    else:
        written.replace(out)


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
    # Here: whoever opens a run needs neither TensorFlow nor matplotlib to read its settings.
    from nfm_tfrs.training import draw_curves

    out.mkdir(exist_ok=True)
    model.save(out / "model.keras")
    (out / "features.json").write_text(model.features.to_json() + "\n", encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps({**reports, "history": history}, indent=2) + "\n")
    (out / "run.json").write_text(json.dumps(settings, indent=2) + "\n")
    names = ["loss", "auc", "log_loss"] if model.task.name == "binary" else ["loss", "rmse", "mae"]
    draw_curves(history, out / "curves.png", names)


def open_run(path: Path) -> tuple[Any, dict[str, Any]]:
    """Returns the model of a run's folder, or of a model file, and the settings of its run (none without a run)."""
    from nfm_tfrs.models.saving import load_model

    if (path / "model.keras").exists():
        path = path / "model.keras"
    beside = path.parent / "run.json"
    return load_model(path, compile=False), json.loads(beside.read_text()) if beside.exists() else {}
