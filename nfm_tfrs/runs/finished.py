"""What one of several trainings ended with, kept beside their checkpoints until all of them are whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfm_tfrs.runs.checkpoint import Checkpoints, differing, plain, remedy, start_anew
from nfm_tfrs.runs.files import write_text
from nfm_tfrs.written import FORMAT, check_format, read, read_file

_FILE = "finished.json"  # which is written last
_MODEL = "finished.keras"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A training that is over, in the folder of its checkpoints.

    Args:
        folder: The folder.
        settings: What the training depended on, plain JSON types by name.
        history: The value of each metric, epoch by epoch.
        resumed: At which steps it went on from a checkpoint.
        pretrained: How many values of each feature have got a pretrained row, plain JSON types by name.
    """

    folder: Path
    settings: Mapping[str, Any]
    history: Mapping[str, Sequence[float]]
    resumed: tuple[int, ...] = ()
    pretrained: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def model(self) -> Path:
        """The file of its model."""
        return self.folder / _MODEL

    @classmethod
    def of(cls, checkpoints: Checkpoints) -> "Finished | None":
        """Returns what was written into the folder of some checkpoints; None where nothing whole was."""
        try:
            written = read_file(checkpoints.folder / _FILE)
            check_format(written, _FILE)
            return cls(
                folder=checkpoints.folder,
                settings=read(written, "settings", Mapping),
                history=read(written, "history", Mapping),
                resumed=tuple(read(written, "resumed", list)),
                pretrained=read(written, "pretrained", list),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that it is of the training that is asked for.

        Args:
            settings: What that one depends on; what only one of the two knows is not compared.

        Raises:
            ValueError: Something differs.
        """
        if (difference := differing(self.settings, json.loads(json.dumps(settings, default=plain)))) is not None:
            name, was, now = difference
            raise ValueError(
                f"{self.folder} holds a member of another training, whose {name} was {was}; received {now}. "
                f"{remedy(name, was)}, or remove {self.folder.parent} to start anew."
            )

    def write(self) -> None:
        """Writes this beside its model, in the place of the checkpoints."""
        start_anew(self.folder, keep=(_MODEL,))
        told = {name: value for name, value in vars(self).items() if name != "folder"}
        write_text(self.folder / _FILE, json.dumps({"format": FORMAT, **told}, default=plain))
