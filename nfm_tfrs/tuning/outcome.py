"""What a search leaves behind: the model, what makes it again, the evidence, a card, and TensorBoard's logs."""

import json
import platform
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.report.page import write_report
from nfm_tfrs.runs.files import write_text, writing
from nfm_tfrs.runs.folder import plain
from nfm_tfrs.tuning.finalists import Found

FILES = ("model.keras", "features.json", "best.json", "search.json", "card.md", "report.html")
_PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-tuner", "numpy")


def write_found(found: Found, features: FeatureSpec, folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes what a search found into its folder.

    Args:
        found: The search's.
        features: Of the model.
        folder: The search's.
        facts: Of the data, for the card: `rows` by part, label, split, …
    """
    versions = {package: metadata.version(package) for package in _PACKAGES} | {"python": platform.python_version()}
    settings = found.evidence["settings"]
    evidence = {
        **found.evidence,
        "seed": settings["seed"],
        "passes": settings["passes"],
        "slices": settings["slices"],
        "data": {**facts, "fingerprint": settings["data"]},
        "versions": versions,
    }
    with writing(folder / "model.keras", overwrite=True) as file:
        found.model.save(file)
    write_text(folder / "features.json", features.to_json() + "\n")
    write_text(folder / "best.json", json.dumps(found.best, indent=2) + "\n")
    write_text(folder / "search.json", json.dumps(plain(evidence), indent=1) + "\n")
    write_text(folder / "card.md", card(found.best, evidence))
    write_logs(evidence, folder / "tensorboard")
    try:
        write_report(evidence, folder / "report.html")
    except ImportError as error:  # of what draws it
        warnings.warn(f"The page of the search is left out: {error}", stacklevel=2)


def card(best: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """Returns the model card, Markdown: what the model is, how it was chosen, and every figure."""
    winner, goal, made = evidence["finalists"][0], evidence["objective"], evidence["model"]
    states = [trial["status"] for trial in evidence["trials"]]
    config = {name: value for name, value in best["config"].items() if name != "features"}
    lines = [
        f"# {best['model']}",
        "",
        f"Chosen by `{goal['name']}` ({goal['direction']}) of {states.count('COMPLETED')} finished trials "
        f"({len(states) - states.count('COMPLETED')} failed) in {evidence['seconds'] / 60:.1f} minutes.",
        evidence["verdict"],
        "",
        "```json",
        json.dumps({**best, "config": config}, indent=2),
        "```",
        "",
        "## Finalists, on validation",
        "",
        "| trial | mean | spread | seeds | less the first's |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for entry in evidence["finalists"]:
        gap = entry["difference"]
        less = "" if gap is None else "{:+.4f} [{:+.4f}, {:+.4f}]".format(gap["mean"], *gap["interval"])
        spread = "" if entry["sd"] is None else f"{entry['sd']:.4f}"
        lines.append(f"| {entry['trial']} | {entry['mean']:.4f} | {spread} | {len(entry['runs'])} | {less} |")
    if evidence["diverged"]:
        lines += ["", f"Diverged with every seed: trial {', '.join(evidence['diverged'])}."]
    lines += ["", "## Test rows, judged once", ""]
    if evidence["test"] is None:
        lines.append("None were given.")
    else:
        lines += [f"- {name}: {value:.4f}" for name, value in evidence["test"]["metrics"].items()]
        lines.append(
            "- 95 % interval of {} over rows: [{:.4f}, {:.4f}]".format(
                goal["name"].removeprefix("val_"), *evidence["test"]["interval"]
            )
        )
    lines += ["", "## Made from", ""]
    lines += [f"- {name}: {value}" for name, value in evidence["data"].items() if name != "rows"]
    lines += [f"- {name} rows: {count:,}" for name, count in evidence["data"]["rows"].items()]
    lines.append(f"- {evidence['passes']:g} passes in {evidence['slices']} slices, seed {evidence['seed']}")
    lines.append(f"- the model: {made['slices']} slices of the {made['rows']} rows, seed {made['seed']}")
    lines.append(f"- seeds of the runs: {', '.join(str(run['seed']) for run in winner['runs'])}")
    lines += [f"- {package} {version}" for package, version in evidence["versions"].items()]
    return "\n".join(lines) + "\n"


def write_logs(evidence: Mapping[str, Any], folder: Path) -> None:
    """Writes every finished trial for TensorBoard's HParams page: its values, and its scores after each slice."""
    # Here: TensorBoard takes a second to import.
    from tensorboard.plugins.hparams import api

    shutil.rmtree(folder, ignore_errors=True)  # of the same search, if it is asked for once more
    for trial in evidence["trials"]:
        if not trial["scores"]:
            continue
        with tf.summary.create_file_writer(str(folder / trial["id"])).as_default():
            api.hparams(trial["values"], trial_id=trial["id"])
            for number, score in enumerate(trial["scores"], start=1):
                for name, value in score.items():
                    tf.summary.scalar(f"val_{name}", value, step=number)
