"""What a saved model holds, looked at before anything is made of it: a config whose sizes go with its weights."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from nfm_tfrs.arguments import MOST_MODELS
from nfm_tfrs.embedding.shapes import weight_shapes
from nfm_tfrs.features.compression import QuotientRemainder
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.keras_compat.private import saved_model_metadata
from nfm_tfrs.written import first_line

_PACKED = 20  # times its size that a file may unpack to: Keras packs nothing, somebody who zips it again does
_DEEPEST = 50  # layers, or blocks: each takes a tenth of a second to make, whatever its weights
_LAYERS = 64  # times its weights that the two largest numbers beside the features, as widths of one layer, may give
_SMALL = 2**20  # numbers that any model may hold, whatever its file does
# Values, places and factors, not sizes.
_DATA = (
    "vocabulary",
    "free_ids",
    "boundaries",
    "missing_values",
    "mean",
    "std",
    "fill",
    "skip",
    "sigma",
    "temperature",
)
_IDS = ("vocabulary_size", "num_hash_buckets")
_WEIGHTS = "model.weights.h5"
_ENSEMBLE = "nfm_tfrs>EnsembleModel"  # as Keras registers it


def read_contents(path: Path) -> dict[str, Any]:
    """Returns the config of a `.keras` file whose parts go with each other.

    Keras makes what a config says before it looks for weights: a small file that says so would take all memory. A model
    that is honest has weights for whatever its config declares.

    Raises:
        ValueError: It is no such file, is damaged, unpacks to far more than it is, or its config declares more weights
            than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            config = json.loads(archive.read("config.json"))
            held = _numbers_held(archive)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        ValueError,
        OSError,
        RecursionError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise ValueError(
            f"{path} is not a saved model, or it is cut short ({first_line(error)}). Give a whole .keras file."
        ) from error
    return _checked(config, held, path)


def read_folder_contents(path: Path) -> dict[str, Any]:
    """Returns the config of a SavedModel's folder whose parts go with each other, as `read_contents` does of a file.

    Raises:
        ValueError: It holds no Keras model, is damaged, or its config declares more weights than it holds.
    """
    weights = path / "variables"
    try:
        config = saved_model_metadata(path)
        shapes = tf.train.load_checkpoint(str(weights / "variables")).get_variable_to_shape_map()
        held = sum(prod(shape) for shape in shapes.values())
        held_bytes = sum(part.stat().st_size for part in weights.glob("variables.data-*"))
        if held > held_bytes:  # a number takes a byte or more
            raise ValueError("its weights are cut short: they declare more than they hold. Give the whole folder")
    except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not opened: {first_line(error)}.") from error
    return _checked(config, held, path)


def _checked(config: Any, held: int, path: Path) -> Any:
    models, most = _models(config), max(held, _SMALL)
    if len(models) > MOST_MODELS:
        raise ValueError(
            f"{path} is not opened: its config declares {len(models):,} models, and {MOST_MODELS} are the most. Save a "
            "smaller ensemble."
        )
    for model in models:
        _check_declared(model, most, path)
    if (declared := sum(map(_feature_weights, models))) > most:  # each alone may be as large as all are
        raise _too_many(path, declared, "features", most)
    return config


def _models(config: Any) -> list[Any]:
    """The config of a model, or of an ensemble those of its models; nothing of what is no model."""
    written = config.get("config") if isinstance(config, dict) else None
    if not isinstance(written, dict):
        return []
    parts = written.get("models")
    if (config.get("registered_name") or config.get("class_name")) != _ENSEMBLE or not isinstance(parts, list):
        return [written]
    found = [part.get("config") for part in parts if isinstance(part, dict)]
    return [part for part in found if isinstance(part, dict)]


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _PACKED * size + _SMALL:
        raise ValueError(f"{size:,} bytes unpack to {unpacked:,}")


def _numbers_held(archive: zipfile.ZipFile) -> int:
    """How many numbers the weights are; what they are stays unread."""
    import h5py

    with archive.open(_WEIGHTS) as member, h5py.File(member, "r") as weights:
        held = [(dataset.size, dataset.nbytes) for dataset in _datasets(weights)]
    if sum(size for _, size in held) > _PACKED * archive.getinfo(_WEIGHTS).file_size + _SMALL:
        raise ValueError(f"{_WEIGHTS} declares more than it holds")
    return sum(count for count, _ in held)


def _datasets(group: Any, depth: int = 0, seen: set[int] | None = None) -> Iterator[Any]:
    """The datasets of a group of an HDF5 file, each once; links to anywhere else are refused: they name other files."""
    import h5py

    seen = set() if seen is None else seen
    if depth > 64:
        raise ValueError(f"{_WEIGHTS} is nested more than 64 levels deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{_WEIGHTS} has a link at {name!r}")
        part = group[name]
        address = h5py.h5o.get_info(part.id).addr
        if address in seen:  # by another name: a group may be in many others
            continue
        seen.add(address)
        if isinstance(part, h5py.Group):
            yield from _datasets(part, depth + 1, seen)
        elif part.external or part.is_virtual:
            raise ValueError(f"{_WEIGHTS} has a part of another file at {name!r}")
        else:
            yield part


def _check_declared(config: Mapping[str, Any], most: int, path: Path) -> None:
    """Checks that no table and no layer that a model's config declares has more weights than the file."""
    for name in ("hidden_units", "bottom_units", "interaction"):
        if isinstance(config.get(name), list) and len(config[name]) > _DEEPEST:
            raise ValueError(
                f"{path} is not opened: its config declares {len(config[name]):,} parts at {name}, and {_DEEPEST} are "
                "the most. Save a smaller model."
            )
    declared = list(_sizes(config))
    declared.append(("features", _feature_weights(config)))
    widths = sorted(_numbers([value for name, value in config.items() if name not in ("features", "members")]))[-2:]
    if len(widths) == 2 and _members(config) * prod(widths) > _LAYERS * most:
        declared.append(("a layer", _members(config) * prod(widths)))
    for name, size in declared:
        if size > most:
            raise _too_many(path, size, name, most)


def _too_many(path: Path, size: int, name: str, most: int) -> ValueError:
    return ValueError(
        f"{path} is not opened: its config declares {size:,} weights at {name}, and it holds {most:,} at most. "
        "Save the model again."
    )


def _feature_weights(config: Mapping[str, Any]) -> int:
    """Weights of all that embeds the features that a config declares; 0 of what is no features."""
    features, dim = config.get("features"), config.get("member_dim") or config.get("embedding_dim")
    if not isinstance(features, dict) or not isinstance(dim, int):
        return 0
    dim *= _members(config)
    try:
        spec = FeatureSpec.from_dict(features).with_history_combiner(config.get("history_combiner"))
        spec = spec.with_number_encoder(config.get("number_encoder"))
    except (TypeError, ValueError, AttributeError):  # the model says so in its own words, before it makes anything
        return 0
    numbers = config.get("numeric", "field") == "field"
    return sum(prod(shape) for shape in weight_shapes(spec, dim, linear=config.get("linear") is True, numbers=numbers))


def _members(config: Mapping[str, Any]) -> int:
    """Members that a config declares; each has layers and columns of its own."""
    members = config.get("members", 1)
    return members if isinstance(members, int) else 1


def _rows(feature: Mapping[str, Any]) -> int:
    """Rows that a feature declares, fewer than ids where it says how they are shared."""
    sizes = [feature.get(name) for name in _IDS]
    encoder = feature.get("encoder")
    sizes += encoder.values() if isinstance(encoder, Mapping) else ()  # as many vectors, or twice as many
    known = feature.get("vocabulary")
    most = len(known) if isinstance(known, list) else 0
    ids = max([size for size in sizes if isinstance(size, int)], default=most)
    compression = feature.get("compression")
    told = compression if isinstance(compression, Mapping) else {}
    rows = told.get("num_rows")
    if not isinstance(rows, int) or rows < 1:
        return ids
    return rows + (-(-ids // rows) if told.get("type") == QuotientRemainder.kind else 0)


def _numbers(written: Any, name: str = "") -> Iterator[int]:
    """Every whole number that a config gives, seeds and values left out."""
    if isinstance(written, Mapping):
        for key, value in written.items():
            yield from _numbers(value, str(key))
    elif isinstance(written, list | tuple):
        for value in written:
            yield from _numbers(value, name)
    elif isinstance(written, int) and not isinstance(written, bool) and name not in _DATA and not name.endswith("seed"):
        yield written


def _sizes(written: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number that a config gives, and the product of two that follow each other, as widths of layers do."""
    if isinstance(written, bool) or name in _DATA or name.endswith("seed"):
        return
    if isinstance(written, int):
        yield name, written
    elif isinstance(written, Mapping):
        shared = isinstance(written.get("compression"), Mapping)
        if shared:
            yield name, _rows(written)
        pooled = written.get("type") == "multi_categorical" and written.get("combiner", "") is not None
        for key, value in written.items():
            if not (shared and key in _IDS) and not (pooled and key == "max_length"):
                yield from _sizes(value, str(key))
    elif isinstance(written, list | tuple):
        numbers = [value for value in written if isinstance(value, int)]
        yield from ((name, one * following) for one, following in pairwise(numbers))
        for value in written:
            yield from _sizes(value, name)
