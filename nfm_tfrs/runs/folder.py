"""A run's folder: what training leaves behind, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILES = ("model.keras", "features.json", "metrics.json", "run.json", "curves.png")


def check_output(out: Path, overwrite: bool, *, folder: bool) -> None:
    """Checks that `out` may be written, as a run's folder or as a file.

    Raises:
        FileExistsError: It exists, and replacing was not asked for; or it is not what would replace it: a file where a
            folder goes, a folder where a file goes, or a folder that holds anything but a run.
    """
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")
    if out.exists() and out.is_dir() != folder:
        raise FileExistsError(f"{out} is a {'file' if folder else 'folder'}. Choose another --out.")
    others = {path.name for path in out.iterdir()} - {*FILES, "tensorboard"} if folder and out.is_dir() else set()
    if others:
        raise FileExistsError(f"{out} holds {min(others)}, which is not of a run. Move it, or choose another --out.")


@contextmanager
def unfinished(out: Path, overwrite: bool) -> Iterator[Path]:
    """Gives a path to write to, and puts what was written there in the place of `out` if nothing went wrong.

    It lies beside `out`, so that the last step is a rename; what a failure leaves is removed.

    Raises:
        FileExistsError: `out` has come into being meanwhile, and replacing was not asked for; what was written is kept
            under the name that the message gives.
    """
    out = out.resolve()  # of a link, what it leads to
    out.parent.mkdir(parents=True, exist_ok=True)
    written = out.with_name(f".{out.name}.unfinished-{os.getpid()}")
    replaced = out.with_name(f".{out.name}.replaced-{os.getpid()}")
    try:
        yield written
        if out.exists() and not overwrite:
            kept = out.with_name(f"{out.stem}-{os.getpid()}{out.suffix}")
            written.rename(kept)
            raise FileExistsError(f"{out} was written by somebody else meanwhile. This result is in {kept}.")
        if out.is_dir():
            out.rename(replaced)
        try:
            written.replace(out)
        except BaseException:
            if replaced.exists():
                replaced.rename(out)
            raise
    finally:
        for path in (written, replaced):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


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
