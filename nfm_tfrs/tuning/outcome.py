"""What a search leaves behind: the model, what makes it again, the evidence, a card, and TensorBoard's logs."""

import hashlib
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
    """Writes every trial for TensorBoard's HParams page: its values, its scores after each slice, and how it ended.

    HParams takes trials of one id for one, also those of other searches under its log folder: ids begin with a hash of
    the place and of what was searched.
    """
    # Here: TensorBoard takes a second to import.
    from tensorboard.plugins.hparams import api, api_pb2
    from tensorboard.plugins.hparams.summary import session_end_pb

    shutil.rmtree(folder, ignore_errors=True)  # of the same search, if it is asked for once more
    search = hashlib.sha256(f"{folder.resolve()} {evidence.data.fingerprint} {evidence.seed}".encode()).hexdigest()[:8]
    for trial in evidence.trials:
        well = trial.status == "COMPLETED"
        with tf.summary.create_file_writer(str(folder / trial.id)).as_default():
            api.hparams(dict(trial.values), trial_id=f"{search}-{trial.id}")
            for number, score in enumerate(trial.scores, start=1):
                for name, value in score.items():
                    tf.summary.scalar(f"val_{name}", value, step=number)
            if trial.message:
                tf.summary.text("failure", trial.message, step=0)
            end = session_end_pb(api_pb2.STATUS_SUCCESS if well else api_pb2.STATUS_FAILURE)
            tf.summary.experimental.write_raw_pb(end.SerializeToString(), step=0)
