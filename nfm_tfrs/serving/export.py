"""A model out of its process: its signatures, held against it, with what they take, and a card."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from nfm_tfrs.arguments import missing_column
from nfm_tfrs.data.parts import EncodedPart, encode_part
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.features.frames import as_table
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.metrics.exact import evaluate_binary, evaluate_regression
from nfm_tfrs.models.feature_model import FeatureModel
from nfm_tfrs.runs.claim import claimed
from nfm_tfrs.runs.files import ROWS
from nfm_tfrs.runs.folder import open_run, with_nulls
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.serving.adjustment import METHODS, Adjustment, Method, check_negatives_kept, fitted
from nfm_tfrs.serving.card import CARD, card
from nfm_tfrs.serving.drawn import drawn_rows
from nfm_tfrs.serving.parity import LARGEST, Parity, check_parity, float32_twin, stood_for
from nfm_tfrs.serving.quantized import QUANTIZATIONS, Quantization, quantized_tables
from nfm_tfrs.serving.rows import arrays_of
from nfm_tfrs.serving.runtime import check_installed
from nfm_tfrs.serving.saved_model import check_names, signatures_of, write_saved_model
from nfm_tfrs.serving.scorer import load
from nfm_tfrs.serving.served import Served
from nfm_tfrs.serving.signature import SIGNATURE, Form, Input, Signature, inputs_of
from nfm_tfrs.target import Target
from nfm_tfrs.training.evaluate import predict
from nfm_tfrs.training.repeat import rows_of_run
from nfm_tfrs.written import read_file, read_object, reason

PARITY = "parity.json"
_CALLS = 50  # of which the median is taken


@dataclass(frozen=True)
class Export:
    """What `export` wrote.

    Args:
        folder: Where it is.
        signature: What it takes and gives.
        parity: How far it is from the model.
        bytes: Size of its files.
        quality: On validation rows, the metrics of the model and of the export, where it changes them.
        milliseconds: Median time of scoring one row by `nfm_tfrs.serving.load`; None but of a quantized table.
    """

    folder: Path
    signature: Signature
    parity: Parity
    bytes: int
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    milliseconds: float | None = None


def export(
    model: Any,
    path: str | Path,
    *,
    format: Form = "savedmodel",
    user: Sequence[str] = (),
    optional: Sequence[str] = (),
    padded: Sequence[str] = (),
    quantize: Quantization | None = None,
    calibrate: Method | None = None,
    negatives_kept: float = 1.0,
    valid: Any = None,
    target: Target | str | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> Export:
    """Writes a model for where nothing of this package is: TensorFlow Serving, plain TensorFlow, onnxruntime.

    The folder holds the model, `signature.json` (names, types, shapes, what means missing), `parity.json` and a card,
    `README.md`. A SavedModel has the signatures `serving_default` (columns by their names; a bag NAME is its values one
    behind the other and NAME_lengths, `[rows]`), `examples` (serialized tf.train.Examples) and, with `user`, `rank`.
    The label is never among the inputs. The outputs are `logit` and `probability`, or `prediction`, float32 `[rows]`.

    Args:
        model: A model of this package, trained, loaded or only built; or the path of a run's folder or a model's file.
        path: A new folder.
        format: `"savedmodel"`, or `"onnx"`: one file `model.onnx`, which takes the numbers of buckets in the place of
            values that are hashed (see `nfm_tfrs.serving.encode`).
        user: Columns that the signature `rank` takes once, for all its candidates.
        optional: Columns of which one value, or one bag, may stand for all rows; examples, and rows given to
            `nfm_tfrs.serving.load`, may lack them.
        padded: Bags that come as `[rows, length]`, filled up with missing values.
        quantize: What the embedding table is rounded to: `"int8"`, a scale for each row, or `"float16"`.
        calibrate: How probabilities are fitted to validation rows: `"platt"` or `"isotonic"`.
        negatives_kept: Share of the rows labelled 0 that were kept when the training rows were drawn, above 0; the
            probabilities are those of all rows then.
        valid: Validation rows with labels, to calibrate and to measure on: `nfm_tfrs.data.prepare(…).valid`, or rows of
            any library, or files; those of a run are read from its own files if not given.
        target: What is predicted, where `valid` are rows or files: the run's own if not given.
        overwrite: Whether to replace an export that is there.
        trust: Whether to import and run whatever a model's file names; see `nfm_tfrs.load_model`.

    Raises:
        FileExistsError: There is something at `path`.
        FileNotFoundError: There is no model, or the rows of the run are gone.
        ModuleNotFoundError: ONNX needs packages that are not installed.
        ValueError: The model has no features, an argument does not fit it, or the export does not answer as it does.

    Example:
        >>> from nfm_tfrs import CategoricalFeature, NFM
        >>> city, film = CategoricalFeature("city", vocabulary=["Rome"]), CategoricalFeature("film", vocabulary_size=9)
        >>> model = NFM([city, film])
        >>> written = export(model, "served")
        >>> [one.name for one in written.signature.inputs], written.parity.largest < 1e-5
        (['city', 'film'], True)
    """
    _check_choices(format, quantize, calibrate, {"user": user, "optional": optional, "padded": padded})
    negatives_kept = check_negatives_kept(negatives_kept)
    path = Path(path)
    with claimed(path, overwrite=overwrite, folder=True, exported=True) as folder:
        source = _Source.of(model, trust)
        given = float32_twin(_checked(source.model, format))
        if not given.is_binary and (calibrate or negatives_kept != 1.0):
            raise ValueError("Only the probabilities of a binary model are calibrated; this one predicts numbers.")
        if quantize and not getattr(given, "calls_directly", False):
            raise ValueError(_of_own(given, "No table is quantized of a"))
        signature = Signature(
            inputs=inputs_of(given.features, optional=optional, padded=padded, hashes=format != "onnx"),
            binary=given.is_binary,
            form=format,
            names=_names(given, format, user, optional),
            user=tuple(user),
            table=quantize,
        )
        check_names(signature)
        kept, measured = source.rows(signature.inputs), source.metrics
        part = source.validation(valid, target) if quantize or calibrate else None
        logits = None
        if part is not None:
            with stood_for(given, signature) as reference:
                logits = predict(reference, part)
        if part is not None and part.labels is not None and logits is not None:
            adjustment = fitted(calibrate, logits, part.labels, part.weights, negatives_kept=negatives_kept)
        else:
            adjustment = Adjustment(negatives_kept=negatives_kept)
        signature = replace(signature, adjustment=adjustment)
        folder.mkdir()
        _write(given, signature, folder)
        (folder / SIGNATURE).write_text(json.dumps(signature.to_json(), indent=2) + "\n", encoding="utf-8")
        parity = _held(given, folder, kept, path)
        quality = _quality(given, signature, part, logits)
        milliseconds = _milliseconds(given, folder) if quantize else None
        found_out = {"quality": quality, "milliseconds of one row": milliseconds}
        written = {"differences": dict(parity.differences), "bound": LARGEST, **found_out}
        (folder / PARITY).write_text(json.dumps(with_nulls(written), indent=2) + "\n")
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        found = Export(path, signature, parity, size, quality, milliseconds)
        (folder / CARD).write_text(card(given, found, source.record, measured), encoding="utf-8")
    return found


@dataclass(frozen=True)
class _Source:
    """The model that is exported, and what its run left beside it.

    Args:
        model: The model.
        record: The run's record.
        folder: The run's folder.
    """

    model: Any
    record: RunRecord | None = None
    folder: Path | None = None

    @classmethod
    def of(cls, model: Any, trust: bool) -> "_Source":
        if not isinstance(model, str | Path):
            return cls(model)
        opened, record = open_run(Path(model), trust=trust)
        folder = Path(model) if Path(model).is_dir() else Path(model).parent
        return cls(opened, record, folder if record is not None else None)

    def rows(self, inputs: Sequence[Input]) -> Any:
        """Rows that the run kept; None where it kept none, or any that no export takes, as numbers beyond float32."""
        if self.folder is None or not (self.folder / ROWS).exists():
            return None
        kept = read_table(str(self.folder / ROWS), types=self.model.features.column_types)
        try:
            arrays_of(inputs, kept)
        except ValueError:
            return None
        return kept

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the run's metrics.json holds; nothing without a run."""
        path = None if self.folder is None else self.folder / "metrics.json"
        if path is None or not path.exists():
            return {}
        try:
            found = read_object(read_file(path))
            for part in ("valid", "test", "intervals"):
                read_object(found.get(part, {}))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged: {reason(error)}. Train the model anew, or remove the file."
            ) from error
        return found

    def validation(self, given: Any, target: Target | str | None) -> EncodedPart:
        """The validation rows: those given, or else the run's."""
        if given is None:
            if self.record is None:
                raise ValueError("A calibration, and a quantization, is measured on validation rows. Pass valid=.")
            return rows_of_run(self.record, self.model.features).valid
        if isinstance(given, EncodedPart):
            part = given
        else:
            meant = Target.of(target) if target is not None else None if self.record is None else self.record.target
            if meant is None:
                raise ValueError("There is no run that says what valid= predicts. Pass target= (--label).")
            files = isinstance(given, str | Path) or (
                isinstance(given, list | tuple) and all(isinstance(one, str | Path) for one in given)
            )
            rows = read_table(given, types=self.model.features.column_types) if files else as_table(given)
            meant = replace(meant, task="binary" if self.model.is_binary else "regression")
            part = encode_part(rows, self.model.encoder, meant)
        if part.labels is None:
            raise ValueError("The validation rows have no labels. Prepare them with a target.")
        return part


def _check_choices(
    format: str, quantize: str | None, calibrate: str | None, lists: Mapping[str, Sequence[str]]
) -> None:
    if format not in get_args(Form):
        raise ValueError(f"format is {' or '.join(get_args(Form))}; received {format!r}.")
    if quantize not in (None, *QUANTIZATIONS):
        raise ValueError(f"quantize is {' or '.join(QUANTIZATIONS)}; received {quantize!r}.")
    if calibrate not in (None, *METHODS):
        raise ValueError(f"calibrate is {' or '.join(METHODS)}; received {calibrate!r}.")
    for name, columns in lists.items():
        if isinstance(columns, str) or not isinstance(columns, Sequence):
            raise ValueError(f"{name}= is a list of columns; received {columns!r:.60}. Write it in brackets.")
    if format == "onnx":
        for name in ("user", "optional"):
            if lists.get(name):
                raise ValueError(f"{name}= is of SavedModels; an ONNX file has no such inputs. Leave {name}= out.")
        check_installed("onnx", "tf2onnx", "onnxruntime")


def _checked(model: Any, format: str) -> Any:
    """The model, if there is something to export of it in this format."""
    if not isinstance(model, FeatureModel):
        raise ValueError(f"Models of this package are exported; received {type(model).__name__}. Call its own export.")
    if model.features is None:
        raise ValueError("The model does not know its features yet. Pass features=, or call fit or adapt first.")
    if format == "onnx":
        if not model.calls_directly:
            raise ValueError(_of_own(model, "ONNX takes no"))
        if any(part.embedding.num_fields is None for part in model.parts):
            raise ValueError(
                "ONNX needs the same number of fields in each batch; received features with combiner=None and no "
                "max_length. Give them a max_length, or export a SavedModel."
            )
    return model


def _of_own(model: Any, what: str) -> str:
    return f"{what} model whose call is its own; received {type(model).__name__}. Export a SavedModel as it is."


def _names(model: Any, format: str, user: Sequence[str], optional: Sequence[str]) -> tuple[str, ...]:
    names = list(model.features.names)
    for column in user:
        if column not in names:
            raise missing_column(column, names, reader="user=")
    if user and {*names} <= {*user, *optional}:
        raise ValueError(
            "user= and optional= name all columns, and none is left that each candidate has. Leave one out of them."
        )
    for bag in model.features.bags if user else ():
        others = [other.name for other in model.features.bags if bag.weights and other.weights == bag.weights]
        if len({name in user for name in others}) > 1:
            raise ValueError(
                f"The bags {', '.join(others)} share the weights {bag.weights!r}. Name all of them in user=."
            )
    if format == "onnx":
        return ("serving_default",)
    return ("serving_default", "examples", *(("rank",) if user else ()))


def _write(model: Any, signature: Signature, folder: Path) -> None:
    if signature.form == "onnx":
        from nfm_tfrs.serving.onnx_model import write_onnx

        write_onnx(model, signature, folder)
        return
    served = Served(model, signature.inputs, signature.adjustment, user=signature.user)
    if signature.table is not None:
        held = quantized_tables(model, signature.table)
        variables = [table.mapped(lambda array: tf.Variable(array, trainable=False)) for table in held]
        served = replace(served, tables=variables)
    write_saved_model(served, folder, signatures_of(served, signature.names))


def _held(model: Any, folder: Path, rows: Any, path: Path) -> Parity:
    """The parity of the export in a folder, which is called by the path that it will have."""
    try:
        return check_parity(model, folder, rows)
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), str(path))) from error


def _milliseconds(model: Any, folder: Path) -> float:
    scorer, (row,) = load(folder), drawn_rows(model.features, 5).slice(4).to_pylist()
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        scorer.predict(row)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3


def _quality(model: Any, signature: Signature, part: EncodedPart | None, logits: Any) -> dict[str, dict[str, float]]:
    """The metrics of the model and of its export on validation rows; nothing without any."""
    if part is None:
        return {}
    if not model.is_binary:
        own = evaluate_regression(part.labels, predict(model, part), part.weights)
        return {"model": own, "export": evaluate_regression(part.labels, logits, part.weights)}
    adjusted = replace(signature.adjustment, negatives_kept=1.0).of_array(logits)  # as the validation rows were drawn
    return {
        "model": _judged(part, predict(model, part)),
        "export": _judged(part, adjusted),
    }


def _judged(part: EncodedPart, logits: np.ndarray) -> dict[str, float]:
    """The metrics of logits; of labels between 0 and 1 the log loss alone."""
    labels = np.asarray(part.labels, np.float64)
    if np.isin(labels, (0.0, 1.0)).all():
        return evaluate_binary(labels, logits, None, part.weights)
    losses = np.logaddexp(0, logits.astype(np.float64)) - labels * logits
    return {"log_loss": float(np.average(losses, weights=part.weights))}
