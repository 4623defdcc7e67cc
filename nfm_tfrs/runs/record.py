"""What a run was told and made from: enough to tell it and to repeat it from its folder."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.history.rule import read_histories
from nfm_tfrs.evidence import Winner
from nfm_tfrs.target import Target
from nfm_tfrs.written import FORMAT, check_format, read, read_file, read_texts, reason

_SIGN_IN = re.compile(r"(\w+://)[^/@\s]*@")
_QUERY = re.compile(r"(\w+://[^?\s]*)\?\S*")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of a run, as a person named them, without credentials.

    Args:
        data: The files that were trained on, or split.
        valid: Files of the rows that were chosen on; none where `data` was split.
        test: Files of the rows that were judged on.
        earlier: Files of rows of before, which histories saw.
        format: The files' format, where their suffix does not tell.
        stream: Whether the rows trained on were read batch by batch.
        fingerprint: Hash of the rows trained and chosen on; None where they were streamed.
        state: Hashes of all these, by what a person named: of what is in them, or of the sizes and times of those that
            were read batch by batch; none in runs of before.
    """

    data: tuple[str, ...]
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    format: str | None = None
    stream: bool = False
    fingerprint: str | None = None
    state: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("data", "valid", "test", "earlier"):
            object.__setattr__(self, part, tuple(map(without_credentials, getattr(self, part))))

    def to_json(self) -> dict[str, Any]:
        """Returns this as plain JSON types."""
        files = {"paths": list(self.data), "valid": list(self.valid), "test": list(self.test)}
        files |= {"earlier": list(self.earlier)} if self.earlier else {}
        how = {"format": self.format, "stream": self.stream}
        return {**files, **how, "fingerprint": self.fingerprint, "state": dict(self.state)}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Source":
        """Returns what `to_json` wrote.

        Raises:
            KeyError: It names no files.
            TypeError: A value is not of its type.
        """
        return cls(
            data=read_texts(written, "paths"),
            valid=read_texts(written, "valid", ()),
            test=read_texts(written, "test", ()),
            earlier=read_texts(written, "earlier", ()),
            format=read(written, "format", str | None, None),
            stream=read(written, "stream", bool, False),
            fingerprint=read(written, "fingerprint", str | None, None),
            state=read(written, "state", Mapping, {}),
        )


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What `run.json` holds.

    Args:
        target: What the model predicts.
        seed: Seed of the split, of the weights, of dropout and of the order of rows.
        split: How the rows were divided, as a person writes it; None at random, or where parts are files.
        groups: The column of users; None without grouped metrics.
        recipe: The model and its training, without the features, which lie beside; None in runs of version 0.1.0.
        epochs: Passes over the training rows at most, where that is not the recipe's passes.
        patience: Epochs without a better score after which the training stopped.
        winner: How the search made the model that the run repeated; None where it repeated none.
        slices: Slices of a whole training of that search.
        source: The files; None where the rows came from elsewhere.
        versions: Versions of the packages that took part, by name.
        date: When the run began, UTC, ISO 8601.
        command: The command line; None where there was none.
        interrupted: Whether the training was ended before it was over, and the best weights until then were kept.
        resumed: At which training steps it went on from a checkpoint, counted from the first pass on.
        base: The folder of the run whose model went on; None where the training began with a new one.
        growth: How vocabularies grew where a model went on, plain JSON types by name.
        histories: What rows hold of what their user did before, as a person writes it.
        pretrained: The files that rows began at, whether these were frozen, and a hash of each file, by feature.
        members: Trainings, of seeds that follow each other, whose mean the model is.
        rules: By which rules the features were inferred, or their hash where they were given, plain JSON types by name.
    """

    target: Target
    seed: int = 0
    split: str | None = None
    groups: str | None = None
    recipe: Configuration | None = None
    epochs: int | None = None
    patience: int | None = None
    winner: Winner | None = None
    slices: int | None = None
    source: Source | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str | None = None
    command: str | None = None
    interrupted: bool = False
    resumed: tuple[int, ...] = ()
    base: str | None = None
    growth: Mapping[str, Any] = field(default_factory=dict)
    histories: tuple[str, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)
    pretrained: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns the record as plain JSON types."""
        return {
            "format": FORMAT,
            **self.target.to_json(),
            "split": self.split,
            "groups": self.groups,
            "seed": self.seed,
            "epochs": self.epochs,
            "patience": self.patience,
            "winner": self.winner and {**self.winner.to_json(), "of": self.slices},
            "recipe": self.recipe and self.recipe.to_json(),
            "data": self.source and self.source.to_json(),
            "versions": dict(self.versions),
            "date": self.date,
            "command": self.command,
            "interrupted": self.interrupted,
            "resumed": list(self.resumed),
            "from": self.base,
            "growth": dict(self.growth),
            "rules": dict(self.rules),
            "histories": list(self.histories),
            **({"pretrained": dict(self.pretrained)} if self.pretrained else {}),
            **({"members": self.members} if self.members > 1 else {}),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What `to_json` returns without the run's date, versions and outcome: what decides how its training goes."""
        outcome = ("versions", "date", "command", "interrupted", "resumed", "data", "rules")
        told = {name: value for name, value in self.to_json().items() if name not in outcome}
        if self.source is not None:
            told["data"] = {**self.source.to_json(), "fingerprint": None, "state": None}
        if self.source is not None and self.source.state:  # runs of before know neither
            told |= {"files": dict(self.source.state), "rules": dict(self.rules)}
        # In runs without any too: with some they are other trainings.
        told |= {"pretrained": dict(self.pretrained), "members": self.members}
        settings: dict[str, Any] = json.loads(json.dumps(told))  # tuples as they come back
        return settings

    @classmethod
    def from_file(cls, path: Path) -> "RunRecord":
        """Returns what a `run.json` holds, of this version or an earlier one.

        Raises:
            ValueError: It is none, or a newer version wrote it.
        """
        try:
            written = read_file(path)
            check_format(written, "run.json")
            made = written.get("winner") or {}
            return cls(
                target=Target.from_json(written),
                seed=read(written, "seed", int, 0),
                split=read(written, "split", str | None, None),
                groups=read(written, "groups", str | None, None),
                recipe=Configuration.from_json(written["recipe"]) if written.get("recipe") else None,
                epochs=read(written, "epochs", int | None, None),
                patience=read(written, "patience", int | None, None),
                winner=Winner.from_json(made) if made else None,
                slices=read(made, "of", int | None, None),
                source=Source.from_json(written["data"]) if written.get("data") else None,
                versions=read(written, "versions", Mapping, {}),
                date=read(written, "date", str | None, None),
                command=read(written, "command", str | None, None),
                interrupted=read(written, "interrupted", bool, False),
                resumed=tuple(read(written, "resumed", list, [])),
                base=read(written, "from", str | None, None),
                growth=read(written, "growth", Mapping, {}),
                histories=read_histories(written),
                rules=read(written, "rules", Mapping, {}),
                pretrained=read(written, "pretrained", Mapping, {}),
                members=read(written, "members", int, 1),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = reason(error)
            raise ValueError(f"{path} is no run.json of a run: {why}. Give the folder that train wrote.") from error


def without_credentials(text: str) -> str:
    """Returns a path or URL without a user, a password or a signed query in it.

    Example:
        >>> without_credentials("s3://key:secret@bucket/rows.parquet?X-Signature=abc")
        's3://bucket/rows.parquet'
    """
    return _QUERY.sub(r"\1", _SIGN_IN.sub(r"\1", text))


def as_command(words: Sequence[str]) -> str:
    """Returns a command line as a person types it, without credentials."""
    return shlex.join(map(without_credentials, words))
