"""What a search leaves behind: the model, what makes it again, the evidence, a card, and TensorBoard's logs."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfm_tfrs.evidence import Evidence
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.report.card import card
from nfm_tfrs.report.page import write_report
from nfm_tfrs.runs.files import write_text, writing
from nfm_tfrs.training.recipe import Best

FILES = ("model.keras", "features.json", "best.json", "search.json", "card.md", "report.html")


def write_found(
    model: Any,
    best: Best,
    features: FeatureSpec,
    evidence: Evidence,
    settings: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes what a search found into its folder.

    Args:
        model: The model that the search ends with, trained.
        best: The recipe of the model, the features in its config, and how the model was made.
        features: The model's features.
        evidence: What the search tried and measured.
        settings: What the search was told, plain JSON types.
        folder: The search's.
    """
    with writing(folder / "model.keras", overwrite=True) as file:
        model.save(file)
    write_text(folder / "features.json", features.to_json() + "\n")
    write_text(folder / "best.json", json.dumps(best.to_json(), indent=2) + "\n")
    write_text(folder / "search.json", json.dumps({**evidence.to_json(), "settings": settings}, indent=1) + "\n")
    write_text(folder / "card.md", card(best.recipe.without_features(), evidence))
    write_logs(evidence, folder / "tensorboard")
    try:
        write_report(evidence, folder / "report.html")
    except ImportError as error:  # of what draws it
        warnings.warn(f"The page of the search is left out: {error}", stacklevel=2)


def write_logs(evidence: Evidence, folder: Path) -> None:
    """Writes every finished trial for TensorBoard's HParams page: its values, and its scores after each slice."""
    # Here: TensorBoard takes a second to import.
    from tensorboard.plugins.hparams import api

    shutil.rmtree(folder, ignore_errors=True)  # of the same search, if it is asked for once more
    for trial in evidence.trials:
        if not trial.scores:
            continue
        with tf.summary.create_file_writer(str(folder / trial.id)).as_default():
            api.hparams(dict(trial.values), trial_id=trial.id)
            for number, score in enumerate(trial.scores, start=1):
                for name, value in score.items():
                    tf.summary.scalar(f"val_{name}", value, step=number)
