"""`train --pretrained`: features whose rows begin at vectors that were learnt elsewhere."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.vectors import Vectors, read_vectors, taking_vectors, with_vectors
from nfm_tfrs.runs.files import files_state
from nfm_tfrs.runs.record import without_credentials

if TYPE_CHECKING:
    from nfm_tfrs.data.parts import Prepared


@dataclass(frozen=True, kw_only=True)
class PretrainedOptions:
    """Vectors that were learnt elsewhere.

    Args:
        pretrained: FEATURE:FILE, a .parquet or .npz of values and vectors that the feature's rows begin at; repeatable.
        frozen: Leave these rows as they are: a learned matrix makes fields of them.
    """

    pretrained: list[str] = field(default_factory=list)
    frozen: bool = False

    def __post_init__(self) -> None:
        if self.frozen and not self.pretrained:
            raise ValueError("--frozen leaves pretrained rows as they are. Pass --pretrained FEATURE:FILE too.")
        names = []
        for told in self.pretrained:
            name, separator, path = told.partition(":")
            if not (name and separator and path):
                raise ValueError(f"--pretrained takes FEATURE:FILE, such as film:vectors.parquet; received {told!r}.")
            if name in names:
                raise ValueError(f"--pretrained names the feature {name!r} twice. Give it one file.")
            names.append(name)

    @property
    def files(self) -> dict[str, str]:
        """The file of each feature."""
        return {name: path for name, _, path in (told.partition(":") for told in self.pretrained)}

    @cached_property
    def vectors(self) -> dict[str, Vectors]:
        """The vectors of each feature.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is not of vectors; see `read_vectors`.
        """
        return {name: read_vectors(path, name) for name, path in self.files.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the files and what is in them, plain JSON types by feature; nothing without any."""
        return {
            name: {
                "path": without_credentials(path),
                "frozen": self.frozen,
                "state": files_state([Path(path).expanduser()], contents=True) if Path(path).exists() else None,
            }
            for name, path in self.files.items()
        }

    def check(self, features: FeatureSpec | None) -> None:
        """Refuses what can be seen to be wrong before any row is read.

        Args:
            features: The features, where they are known already.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is not of vectors, or not of a feature that takes them, or a frozen feature has none.
        """
        vectors = self.vectors
        if features is None:
            return
        tables = {taking_vectors(features, name).table for name in vectors}
        for feature in features:
            if isinstance(feature, Categories) and feature.frozen and feature.table not in tables:
                raise ValueError(
                    f"Feature {feature.name!r} is frozen, and its rows would stay zero. Pass --pretrained "
                    f"{feature.name}:FILE, or take frozen out of its features.json."
                )

    def applied(self, data: "Prepared") -> "Prepared":
        """Returns rows whose features are as long as their vectors; what is encoded stays."""
        if not self.pretrained:
            return data
        from nfm_tfrs.features.encoder import FeatureEncoder  # TensorFlow

        return replace(data, encoder=FeatureEncoder(with_vectors(data.features, self.vectors, frozen=self.frozen)))
