"""Trains the model of a run again from what its folder says."""

from pathlib import Path

from nfm_tfrs.data.history.parts import is_read
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.data.parts import Prepared, fingerprint
from nfm_tfrs.data.prepare import prepare_files
from nfm_tfrs.data.split import parse_split
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.folder import read_features
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.training.recipe import Recipe, Trained
from nfm_tfrs.trust import trusting


def repeat_run(folder: str | Path, *, trust: bool = False) -> Trained:
    """Trains the model of a run again from its files: bit for bit on the same machine and threads.

    The files are read where the run read them: paths that do not begin at the root, from the working directory.

    Args:
        folder: What `nfm-tfrs train` wrote.
        trust: Whether to import and run whatever the folder's files name. Only for files of your own.

    Raises:
        FileNotFoundError: The folder, or a file of the data, is not there.
        ValueError: The folder does not say how the model was made, the run was interrupted, repeated a search or went
            on from another, the data is another, or the model's config names what is not known (see
            `nfm_tfrs.load_model`).

    Example:
        >>> from nfm_tfrs.training import repeat_run
        >>> repeat_run("runs/first")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no run at runs/first: it has no run.json. Give the folder that train wrote.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists():
        raise FileNotFoundError(f"There is no run at {folder}: it has no run.json. Give the folder that train wrote.")
    record = RunRecord.from_file(folder / "run.json")
    source = record.source
    if record.recipe is None or source is None:
        raise ValueError(
            f"{folder / 'run.json'} does not say how and of which rows its model was made: quickstart or nfm-tfrs "
            "0.1.0 wrote it. Give the folder of a newer run of train."
        )
    if record.interrupted:
        raise ValueError(
            f"{folder} holds a run that was interrupted, which no training repeats. Run its command again: "
            f"{record.command}"
        )
    if record.winner is not None:
        raise ValueError(
            f"{folder} holds a run that repeated a search; only the command line does that. Run its command again: "
            f"{record.command}"
        )
    if record.base is not None:
        raise ValueError(
            f"{folder} holds a run that went on from {record.base}; only the command line does that. Run its command "
            f"again: {record.command}"
        )
    data = rows_of_run(record, read_features(folder / "features.json"))
    recipe = Recipe.of(record.recipe)
    seeds = range(record.seed, record.seed + record.members)
    streams = [recipe.stream(source.data, data, seed=seed) for seed in seeds] if source.stream else [None]
    with trusting(trust):
        return recipe.fit(
            data,
            rows=streams if len(streams) > 1 else streams[0],
            seed=record.seed,
            epochs=record.epochs,
            patience=record.patience,
            pretrained=_vectors(record),
            members=record.members,
        )


def _vectors(record: RunRecord) -> dict[str, str]:
    """The files that rows began at, by feature, as they were."""
    found = {}
    for name, told in record.pretrained.items():
        path = str(told.get("path"))
        if not Path(path).expanduser().exists():
            raise FileNotFoundError(f"There is no file {path}, at whose vectors the rows of {name!r} began.")
        if files_state([Path(path).expanduser()], contents=True) != told.get("state"):
            raise ValueError(f"{path} holds other vectors than those that the run began at. Put the file back.")
        found[name] = path
    return found


def rows_of_run(record: RunRecord, features: FeatureSpec) -> Prepared:
    """Returns the rows that a run trained and chose on, encoded anew from its files.

    Args:
        record: The run's, which names its files.
        features: The run's.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: The record names no files, or their rows are others.
    """
    source = record.source
    if source is None:
        raise ValueError("The run does not say which files its rows are of. Give them: valid=.")
    data = prepare_files(
        list(source.data),
        record.target,
        parse_split(record.split or "random", record.seed),
        valid=list(source.valid) or None,
        stream=source.stream,
        features=features,
        histories=[text for text in record.histories if is_read(History.parse(text), features)],
        earlier=list(source.earlier) or None,
        format=source.format,
    )
    if "train" in data.encoded and source.fingerprint is not None:
        found = fingerprint(data.train, data.valid)
        if found != source.fingerprint:
            raise ValueError(
                f"The run had other rows: their fingerprint was {source.fingerprint[:8]}…; received {found[:8]}…. "
                "Put its files back where they were."
            )
    return data
