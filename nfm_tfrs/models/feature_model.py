"""A model that reads features: rows of any library, an output that starts at the labels' mean, weights of before."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.scale import FirstLook
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.features.statistics import Statistics
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.keras_compat.later_weights import LaterWeights, older_file
from nfm_tfrs.keras_compat.private import set_save_spec, steps_taken, task_loss, untracked
from nfm_tfrs.models import inputs, label_start
from nfm_tfrs.models.direct import DirectCall
from nfm_tfrs.models.task_model import TaskModel
from nfm_tfrs.written import first_line

_STATISTICS = "statistics"


class FeatureModel(LaterWeights, TaskModel):
    """What `RankingModel` is beside its structure; its features may be inferred from the data.

    Attributes:
        features: What it reads; None until they are known.
        encoder: From columns to ids and numbers.
        label_mean: Where the output starts, float32 scalar.
        label_scale: What the output is a multiple of, float32 scalar.
        members: How many predictions the output is the mean of.
    """

    later_weights: Mapping[str, float] = {"label_mean": 0.0, "label_scale": 1.0}
    features: FeatureSpec | None
    encoder: FeatureEncoder
    label_mean: Any
    label_scale: Any
    members: int = 1
    _bias: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._statistics: Statistics | None = None
        self._raw_numbers = FirstLook()
        self._directly = DirectCall(self, "_inferred", cast=False)
        self._predicted_directly = DirectCall(self, "predict_step", cast=True)
        self._set_apart(None)

    def _set_features(self, features: Any) -> None:
        """Makes all that depends on the features; a subclass writes it."""
        raise NotImplementedError

    def _known_features(self) -> FeatureSpec:
        if self.features is None:
            raise ValueError(
                "This model does not know its features yet. Pass features=, or call fit or adapt with data first."
            )
        return self.features

    @property
    def statistics(self) -> Statistics | None:
        """What was counted of the training rows; None where nobody has. `.keras` files hold it, other files do not."""
        return self._statistics

    @statistics.setter
    def statistics(self, statistics: Statistics | None) -> None:
        if statistics is not None:
            statistics.check(self._known_features())
            self._take_in(statistics)
        self._statistics = statistics

    def _take_in(self, statistics: Statistics) -> None:
        """Takes in what a training that depends on the statistics needs of them; a subclass writes it."""

    @property
    def needs_statistics(self) -> bool:
        """Whether the statistics of the training rows have to be set before a training."""
        return False

    @property
    def parts(self) -> list[Any]:
        """The models whose outputs' mean it returns: itself alone, where it is no ensemble."""
        return [self]

    @property
    def calls_directly(self) -> bool:
        """Whether inference is what this package wrote, and may be traced once for many calls."""
        return False

    @contextmanager
    def without_xla(self) -> Iterator[None]:
        """Computes plainly inside, however the model is compiled; a subclass that XLA compiles in parts writes it."""
        yield

    def _inferred(self, columns: Any) -> tf.Tensor:
        return self.call(columns, training=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model as Keras does; inference outside of graphs, once repeated, without Keras' own part of it."""
        plain = self.calls_directly and len(args) == 1 and kwargs.keys() <= {"training"}
        if plain and (kwargs.get("training") is None or kwargs.get("training") is False):
            outputs = self._directly(args[0])
            if outputs is not None:
                return outputs
        return super().__call__(*args, **kwargs)

    def adapt(self, data: Any) -> None:
        """Infers the features from `data` and builds the model; nothing happens where they are known.

        Args:
            data: A batched tf.data.Dataset as for `fit`, or what else holds rows: a DataFrame (pandas, or with Arrow's
                C stream as polars has), a dict of columns, a list of dicts, an Arrow table.

        Raises:
            ValueError: Nothing can be inferred; `nfm_tfrs.infer_features` says why.
        """
        if self.features is None:
            spec = inputs.inferred(data, self.label)
            with self.distribute_strategy.scope():
                self._set_features(spec)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as `TaskModel.fit` does; a model without features infers them from `x` first.

        Warns, in its first batch, of numbers that are large and not standardised.

        Args:
            x: A batched tf.data.Dataset or another input of Keras'; or all rows, in their order: a DataFrame (pandas,
                or with Arrow's C stream as polars has), a dict of columns, a list of dicts, an Arrow table. Columns
                that no feature reads are ignored.
            *args: As in Keras: `y`, which may be a list, a Series or an Arrow array, and more.
            **kwargs: As in Keras: `batch_size`, `validation_data` of the same kinds, and more.

        Raises:
            ValueError: `x` holds no columns, one is missing or does not fit its feature, or there are no labels.
        """
        self.adapt(x)
        given = self._taken(keras.Model.fit, x, args, kwargs)
        columns = given.get("x")
        with self.distribute_strategy.scope():
            whole = isinstance(columns, Mapping) and given.get("y") is not None
            if whole and not given.get("class_weight"):  # else the weights come with the batches
                label_start.start_at_batches(self, [(columns, given.get("y"), given.get("sample_weight"))])
            elif tf.distribute.has_strategy() and isinstance(columns, tf.data.Dataset) and self.is_fresh:
                label_start.start_at_batches(self, columns)
        try:
            with inputs.own_words(self.encoder, given):
                return super().fit(**given)
        finally:
            if isinstance(self.train_function, label_start.FirstBatches):
                self.train_function = self.train_function.function  # and let go of the data

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras' `evaluate` does, on what `fit` takes."""
        given = self._taken(keras.Model.evaluate, x, args, kwargs)
        with inputs.own_words(self.encoder, given):
            return super().evaluate(**given)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts as Keras' `predict` does, of what `fit` takes: logits (binary) or numbers, float32 `[n, 1]`."""
        given = self._taken(keras.Model.predict, x, args, kwargs)
        with inputs.own_words(self.encoder, given):
            if self.calls_directly and inputs.is_one_batch(given, self.encoder):
                outputs = self._predicted(given.get("x"))
                if outputs is not None:
                    return outputs
            return super().predict(**given)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Predicts as Keras' `predict_on_batch` does: logits (binary) or numbers, float32 `[batch, 1]`.

        Args:
            x: Columns, tensors or arrays.

        Raises:
            ValueError: A column is missing, or holds what `fit` refuses.
        """
        outputs = self._predicted(x)
        return super().predict_on_batch(x) if outputs is None else outputs

    def _predicted(self, x: Any) -> np.ndarray | None:
        """The predictions of a batch; None where Keras' way has to be taken."""
        if not self.calls_directly or getattr(self.predict_step, "__func__", None) is not TaskModel.predict_step:
            return None
        outputs = self._predicted_directly(x)
        return None if outputs is None else outputs.numpy()

    @overload
    def predict_proba(self, x: Any, *, uncertainty: Literal[False] = False, **kwargs: Any) -> np.ndarray: ...

    @overload
    def predict_proba(self, x: Any, *, uncertainty: Literal[True], **kwargs: Any) -> tuple[np.ndarray, np.ndarray]: ...

    def predict_proba(
        self, x: Any, *, uncertainty: bool = False, **kwargs: Any
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Returns the probability that the label is 1, float32 `[n]`.

        Args:
            x: The rows, as for `predict`.
            uncertainty: Whether to return, beside it, how far the members' probabilities are apart: their standard
                deviation √(1/k Σ_m (p_m - p̄)²), p_m = σ(z_m), float32 `[n]`.
            **kwargs: As in `predict`: `batch_size`, `verbose`, and more.

        Raises:
            ValueError: The model is no binary one, or has one member and no spread; or as `fit` does.
        """
        if not self.is_binary:
            raise ValueError(
                f"A probability is of a binary model; {type(self).__name__} predicts numbers. Call predict."
            )
        if not uncertainty:
            return tf.sigmoid(self.predict(x, **kwargs)[:, 0]).numpy()
        if self.members == 1:
            raise ValueError(
                "Uncertainty is the spread over a model's members; this one has members=1. Make it with members=4."
            )
        for part in self.parts:
            if part.members > 1:
                part.check_apart()
        if self._apart is None:
            with self.distribute_strategy.scope():
                self._set_apart(_Apart(self))
        logits = self._apart.predict(x, **kwargs)
        spread = tf.math.reduce_std(tf.sigmoid(logits), axis=1)
        return tf.sigmoid(self.mean_logit(logits)).numpy(), spread.numpy()

    @untracked
    def _set_apart(self, apart: Any) -> None:
        self._apart = apart

    def mean_logit(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the output, `[batch]`, of what `member_logits` returns."""
        return tf.reduce_mean(logits, axis=1)

    def member_logits(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        """Returns what each member says, float32 `[batch, members]`; the output is their mean.

        Args:
            columns: A batch, as the model is called with.
            training: Whether it is one of training.
        """
        outputs: tf.Tensor = self(columns, training=training)
        return outputs

    def check_apart(self) -> None:
        """Checks that `member_logits` can tell members apart; a subclass that cannot raises."""

    def _taken(self, function: Any, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        given = inputs.named(function, x, args, kwargs)
        self._known_features()
        # A model with a loss of its own may find its labels anywhere.
        labelled = function is not keras.Model.predict and type(self).compute_loss is TaskModel.compute_loss
        return inputs.taken(self.encoder, given, self.label, labelled=labelled)

    def adapt_labels(self, labels: Any, weights: Any = None) -> None:
        """Starts the output at the labels' mean; nothing happens to a model that was told one or has been trained.

        `fit` does it with the labels of its first eight batches, where nobody has told it those of all training rows.

        Args:
            labels: Labels of the training rows, `[n]`.
            weights: Weights of the rows, `[n]`.

        Raises:
            ValueError: The model does not know its features yet.
        """
        self._known_features()
        if self.is_fresh:
            mean, scale = label_start.label_start(task_loss(self.task), labels, weights)
            self.label_mean.assign(mean)
            self.label_scale.assign(scale)

    @property
    def is_fresh(self) -> bool:
        """Whether the model was neither trained nor told its labels: its bias and where it starts are the initial."""
        if self.features is None:
            return False
        return [part.numpy().item() for part in (self._bias, self.label_mean, self.label_scale)] == [0.0, 0.0, 1.0]

    @property
    def _loss_unit(self) -> Any:
        return label_start.loss_unit(task_loss(self.task), self.label_scale)

    def make_train_function(self, force: bool = False) -> Any:
        """Returns `TaskModel`'s function; one of a model that is fresh looks at the labels of its first batches."""
        function = super().make_train_function(force)
        looks = isinstance(function, label_start.FirstBatches) or not self.is_fresh
        return function if looks else label_start.FirstBatches(self, function)

    def take_step(self, inputs: Any) -> tf.Tensor:
        watch = tf.autograph.experimental.do_not_convert(self._raw_numbers.watch)
        watch(self._known_features(), self._unpacked(inputs)[0], steps_taken(self))
        return super().take_step(inputs)

    # --- weights

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads weights as Keras' `load_weights` does, also those of version 0.1.0, which had fewer.

        Raises:
            FileNotFoundError: There is nothing at `filepath`.
            ValueError: The model does not know its features yet, or the weights are damaged or another model's; what
                was loaded before that was found stays.
        """
        self._known_features()
        try:
            with older_file(self, filepath):
                return super().load_weights(filepath, *args, **kwargs)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"There are no weights at {filepath}. Check the path.") from error
        except Exception as error:  # of a damaged file Keras raises anything
            raise ValueError(
                f"{filepath} is damaged or holds weights of another model ({first_line(error)}). Give weights that "
                "save_weights wrote for a model of this config."
            ) from error

    def save_weights(self, *args: Any, **kwargs: Any) -> None:
        """Saves as Keras' `save_weights` does; raises as `load_weights` does."""
        self._known_features()
        super().save_weights(*args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        """Saves, beside what `TaskModel` saves, the statistics in a `.keras` file; files of weights have none."""
        super().save_own_variables(store)
        if self._statistics is not None and _is_in_archive(store):
            for name, array in self._statistics.to_arrays().items():
                store[f"{_STATISTICS}/{name}"] = array

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables({name: store[name] for name in store.keys() if name != _STATISTICS})  # noqa: SIM118
        if _STATISTICS in store.keys():  # noqa: SIM118
            self.statistics = Statistics.from_arrays(_arrays(store[_STATISTICS]))

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints as Keras' `summary` does; raises as `load_weights` does."""
        self._known_features()
        super().summary(*args, **kwargs)

    def count_params(self) -> int:
        """Returns the number of weights as Keras' `count_params` does; raises as `load_weights` does."""
        self._known_features()
        return int(super().count_params())

    def save(self, filepath: Any, overwrite: bool = True, save_format: str | None = None, **kwargs: Any) -> None:
        """Saves as Keras' `save` does, in any thread.

        A SavedModel has the signatures of `nfm_tfrs.serving.export`: columns by their names, without the label.

        Raises:
            ValueError: The model does not know its features yet.
        """
        self._known_features()
        if save_format is None and str(filepath).endswith(".keras"):
            # Keras knows the suffix by a flag of the thread, which a save leaves unset in all threads but the main one.
            save_format = "keras_v3"
        is_folder = save_format in (None, "tf") and not str(filepath).endswith((".keras", ".h5", ".hdf5"))
        if not is_folder or kwargs.get("signatures") is not None:
            super().save(filepath, overwrite, save_format, **kwargs)
            return
        # Here, as below: what is written out of the process is above all models.
        from nfm_tfrs.serving.saved_model import rename_inputs, signatures_of_model, specs_of

        inputs, signatures = signatures_of_model(self)
        set_save_spec(self, specs_of(inputs))
        super().save(filepath, overwrite, save_format, **{**kwargs, "signatures": signatures})
        rename_inputs(Path(filepath), inputs)

    def export(self, filepath: Any, **options: Any) -> Any:
        """Exports the model for TensorFlow Serving, plain TensorFlow or ONNX; see `nfm_tfrs.serving.export`.

        Args:
            filepath: A new folder.
            **options: As in `nfm_tfrs.serving.export`.

        Raises:
            ValueError: The model does not know its features yet, or what `nfm_tfrs.serving.export` raises.
        """
        from nfm_tfrs.serving.export import export

        return export(self, filepath, **options)


class _Apart(FeatureModel):
    """A model whose output is what each member of another one says, `[batch, members]`."""

    def __init__(self, model: FeatureModel) -> None:
        super().__init__(label=model.label, name="apart")
        self.features, self.encoder = model.features, model.encoder
        self._set_whole(model)

    @untracked
    def _set_whole(self, model: FeatureModel) -> None:
        self._whole = model

    def call(self, columns: Mapping[str, Any], training: bool | None = None) -> tf.Tensor:
        return self._whole.member_logits(columns, training)


def _is_in_archive(store: Any) -> bool:
    """Whether what a layer is saved to is part of a `.keras` file, which Keras writes in memory; else it has a path."""
    return getattr(getattr(store, "file", None), "driver", None) == "fileobj"


def _arrays(group: Any) -> dict[str, np.ndarray]:
    """The arrays of a group of an HDF5 file; what else it holds is left out."""
    parts = group.items() if hasattr(group, "items") else ()
    return {name: part[()] for name, part in parts if hasattr(part, "dtype")}
