"""`train --pretrained`: features whose rows begin at vectors that were learnt elsewhere."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nfm_tfrs.features.feature import Categories
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.vectors import Vectors, check_frozen, read_vectors, with_vectors
from nfm_tfrs.runs.files import files_state

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
    def files(self) -> dict[str, Path]:
        """The file of each feature."""
        # A shell leaves the ~ of film:~/v.npz as it is.
        return {name: Path(path).expanduser() for name, _, path in (told.partition(":") for told in self.pretrained)}

    @cached_property
    def vectors(self) -> dict[str, Vectors]:
        """The vectors of each feature.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is not of vectors; see `read_vectors`.
        """
        return {name: read_vectors(path, name) for name, path in self.files.items()}

    def to_json(self, features: FeatureSpec | None) -> dict[str, Any]:
        """Returns the files and what is in them, plain JSON types by feature; nothing without any.

        Args:
            features: The features, where they are known already.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A file is not of vectors.
        """
        frozen = {one.name for one in features or () if isinstance(one, Categories) and one.frozen}
        return {
            name: {
                "path": str(self.files[name]),
                "frozen": self.frozen or name in frozen,
                "state": files_state([self.files[name]], contents=True),
            }
            for name in self.vectors
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
        if features is not None:
            with_vectors(features, vectors, frozen=self.frozen)
            remedy = "Pass --pretrained {}:FILE, or take frozen out of its features.json."
            check_frozen(features, vectors, remedy)

    def applied(self, data: "Prepared") -> "Prepared":
        """Returns rows whose features are as long as their vectors; what is encoded stays."""
        if not self.pretrained:
            return data
        from nfm_tfrs.features.encoder import FeatureEncoder  # TensorFlow

        return replace(data, encoder=FeatureEncoder(with_vectors(data.features, self.vectors, frozen=self.frozen)))
