"""A tfrs.Model around one ranking task: losses averaged right, in float32, and scaled under float16."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from nfm_tfrs.arguments import check_arguments, missing_column, switch
from nfm_tfrs.keras_compat import keras, private, tf, tfrs
from nfm_tfrs.keras_compat.optimizer import inner_optimizer
from nfm_tfrs.models import callbacks, inputs
from nfm_tfrs.models.averaging import Averages, checked_decay
from nfm_tfrs.models.batch_checks import as_target, batch_checks, length_checks, value_checks
from nfm_tfrs.models.class_weights import with_class_weights
from nfm_tfrs.models.inputs import no_labels
from nfm_tfrs.models.losses import Losses, check_draws, mean, run_twice, twice
from nfm_tfrs.models.stop import Place, checked, finite_step, moved_forward, own_words
from nfm_tfrs.models.tasks import ranking_task, task_config
from nfm_tfrs.optimizers import LazyAdagrad, RowWiseOptimizer, optimizer_of
from nfm_tfrs.platform_calls import use_huge_pages
from nfm_tfrs.precision import policy

_SCALE_STATE = ("loss_scale", "loss_scale_counter")
_OF_KERAS = ("name", "trainable", "dynamic")  # what its models take, beside what is set here
_LARGE = 64 * 2**20  # bytes of a variable, from which on a look-up misses the processor's list of small pages
_STEPS = 8  # an execution of `fit`: a tenth faster than one; 32 are no faster


class TaskModel(tfrs.Model):
    """What trains; a subclass writes `call(columns, training=None)`, which returns logits, float32 `[batch, 1]`.

    Trains on batches of `(columns, label[, weight])`, or of one dict with the label inside (`label=`).

    Args:
        task: `"binary"`, `"regression"`, or a `tfrs.tasks.Ranking` on logits with reduction NONE, of whose metrics what
            they have counted is not saved.
        label: The column that is the label, where batches are one dict.
        dtype: What the model computes in, as `nfm_tfrs.precision.policy` takes it; nothing global is set.
        label_smoothing: Share ε of a binary label that training gives to both classes alike: it learns from
            (1 - ε) y + ε / 2. What is reported stays the loss of the labels as they are.
        self_ensemble: Weight λ of a second term of the loss in training: each of two draws of dropout learns from the
            mean of both, as `Losses` says; λ = 1 weighs that mean as much as the label. What is reported stays the loss
            of the labels alone, of both draws.

    Raises:
        TypeError: An argument that the model does not take.
        ValueError: A task on probabilities, an unknown dtype, or an argument out of range or of another task. In
            training, two draws of a model without dropout.
    """

    train_function: Any
    train_tf_function: Any
    averaging: Averages | None = None  # an attribute only of a model that is compiled with it

    def __init__(
        self,
        *,
        task: Any = "binary",
        label: str | None = None,
        dtype: Any = "float32",
        label_smoothing: float = 0.0,
        self_ensemble: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(type(self), kwargs, TaskModel, _OF_KERAS)
        # autocast would turn a raw 70000 into infinity under float16; every layer casts for itself.
        super().__init__(dtype=policy(dtype), autocast=False, **kwargs)
        self.label = label
        self._set_task(task)
        self.label_smoothing, self.self_ensemble = Losses.checked(
            label_smoothing, self_ensemble, private.task_loss(self.task)
        )
        # Every replica returns the synchronised metrics; Keras would add them up over workers.
        self.distribute_reduction_method = "first"

    @private.untracked
    def _set_task(self, task: Any) -> None:
        self._place = Place()
        # Untracked, and reported only once `compute_loss` uses them: a user's own model that just calls this one would
        # report metrics that are never updated, in the place of its own of the same name.
        self.task = ranking_task(task)
        self._task_name = task if isinstance(task, str) else None
        self._loss = keras.metrics.Mean("loss")
        self._regularization_loss = keras.metrics.Mean("regularization_loss")
        self._total_loss = keras.metrics.Mean("total_loss")
        self._skipped_steps = keras.metrics.Sum("skipped_steps")
        own = (self._loss, self._regularization_loss, self._total_loss, self._skipped_steps)
        for metric in (*own, *self.task.metrics):
            # What was counted is no part of a model, and Keras would miss it where the model is compiled otherwise.
            metric.save_own_variables = metric.load_own_variables = _nothing

    def compile(
        self,
        optimizer: Any = None,
        *,
        steps_per_execution: int | Literal["auto"] = "auto",
        jit_compile: bool | Literal["auto"] | None = "auto",
        huge_pages: bool = False,
        averaging: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Compiles as Keras' `compile` does; the loss and the metrics are the task's.

        Args:
            optimizer: A Keras optimizer or its name, `"lazyadam"` and `"lazyadagrad"` among them; LazyAdagrad(0.05) if
                not given (with XLA Keras' Adagrad).
            steps_per_execution: Training steps between two looks of Keras at its callbacks and progress bar. `"auto"`
                is 8 in `fit` on one replica and a dataset of known length, or an endless one with `steps_per_epoch`; it
                is 1 elsewhere, and where a callback of your own looks at batches or `save_freq` counts them.
            jit_compile: Whether XLA compiles the steps. `"auto"` does not: on CPUs its matrix products are slower than
                TensorFlow's own, and the look-ups of distinct rows are beyond it.
            huge_pages: Whether Linux is to keep variables of 64 MB and more, and the optimizer's of them, on pages of
                2 MB, from the first `fit` on: steps of tables of millions of rows are a twentieth faster (measured at
                5 M), and the first one waits a second for each 600 MB. Where the system cannot, nothing happens.
            averaging: Decay of an exponential mean of the weights, which `model.averaging` then keeps beside them; none
                is kept if not given. See `nfm_tfrs.models.averaging.Averages`.
            **kwargs: As in Keras, without `loss`, `metrics`, `weighted_metrics` and `loss_weights`.

        Raises:
            ValueError: A loss or metrics are given, XLA is to compile a row-wise optimizer, several steps are to run at
                a time or weights are to be averaged on several replicas, or a decay that does not average.
        """
        for argument in ("loss", "metrics", "weighted_metrics", "loss_weights"):
            if kwargs.get(argument) is not None:
                raise ValueError(
                    f"{argument} belongs to the task; received {kwargs[argument]!r} in compile. "
                    "Pass task=tfrs.tasks.Ranking(...) to the model."
                )
        if jit_compile not in (True, False, None, "auto"):
            raise ValueError(f'jit_compile is True, False or "auto"; received {jit_compile!r}.')
        if steps_per_execution not in ("auto", 1) and self._most_steps == 1:
            raise ValueError(
                f"On several replicas steps run one at a time; received steps_per_execution={steps_per_execution!r}. "
                "Leave it out."
            )
        if averaging is not None and self._most_steps == 1:
            raise ValueError(
                f"On several replicas weights are not averaged; received averaging={averaging!r}. Leave it out."
            )
        decay = None if averaging is None else checked_decay(averaging)
        if optimizer is None:  # chosen on validation: benchmarks/quality/movielens.py
            optimizer = keras.optimizers.Adagrad(0.05) if jit_compile is True else LazyAdagrad(0.05)
        optimizer = optimizer_of(optimizer)
        inner = inner_optimizer(optimizer)
        if jit_compile is True and isinstance(inner, RowWiseOptimizer):
            raise ValueError(
                f"XLA cannot compile a row-wise optimizer; received {type(inner).__name__} with jit_compile=True. "
                "Leave jit_compile out, or take a Keras optimizer."
            )
        if self.compute_dtype == "float16" and not isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
            optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
        if not hasattr(optimizer, "name"):  # Keras' forgets it, and asks for it when it loads what was not trained
            optimizer.name = "loss_scale_optimizer"
        if getattr(inner, "jit_compile", False):  # Keras' default on GPUs
            inner.jit_compile = False  # it would compile anew for each number of rows in a batch
        self._auto_steps = steps_per_execution == "auto"
        self._huge_pages, self._huge_pages_asked = switch("huge_pages", huge_pages), False
        super().compile(
            optimizer=optimizer,
            steps_per_execution=1 if steps_per_execution == "auto" else steps_per_execution,
            jit_compile=False if jit_compile == "auto" else jit_compile,
            **kwargs,
        )
        for held in ("averaging", "averages_held"):  # of a compilation before
            if held in vars(self):
                delattr(self, held)
        if decay is not None:
            self.averaging = Averages(self, decay)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as Keras' `fit` does.

        Callbacks that look for the best value of a metric of this package take the larger or the smaller as the metric
        has it, whatever their `mode` says, with a warning. `class_weight` works with the label inside, too.

        Raises:
            ValueError: A batch holds what the readers refuse: labels or weights that are none, infinite numbers,
                columns of different lengths, or no row; the line names column, row and batch.
            LossNotFinite: The loss of a step, a ValueError too; the weights are those before that step.
        """
        given = inputs.named(keras.Model.fit, x, args, kwargs)
        losses = [self._loss, self._regularization_loss, self._total_loss]
        callbacks.set_directions(given.get("callbacks"), callbacks.directions(losses, self.task, self._task_name))
        if given.get("class_weight"):
            given = with_class_weights(given, self.label)
        length = int(x.cardinality()) if isinstance(x, tf.data.Dataset) else 0
        if length == tf.data.INFINITE_CARDINALITY:
            length = given.get("steps_per_epoch") or 0
        steps = 1 if callbacks.look_at_steps(given.get("callbacks")) else max(1, min(self._most_steps, length))
        with self._steps_an_execution(steps), own_words(), self._place.followed(self, given):
            return super().fit(**given)

    @contextmanager
    def entered_at(self, epoch: int, step: int) -> Iterator[None]:
        """Has `fit` begin, inside, with a step of an epoch; the batches before it are behind, as messages count them.

        Args:
            epoch: Number of the epoch, counted from 0.
            step: Number of the step in it, counted from 0.
        """
        self._place.entered = step
        try:
            with private.entered_at(self, epoch, step):
                yield
        finally:
            self._place.entered = 0

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras' `evaluate` does; refuses the batches that `fit` refuses."""
        with self._steps_an_execution(1), own_words():
            return super().evaluate(*args, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Trains as Keras' `train_on_batch` does; refuses the batches that `fit` refuses."""
        with own_words():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras' `test_on_batch` does; refuses the batches that `fit` refuses."""
        with own_words():
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts as Keras' `predict_on_batch` does; refuses the columns that `fit` refuses."""
        with own_words():
            return super().predict_on_batch(x)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predicts as Keras' `predict` does; refuses the columns that `fit` refuses."""
        with self._steps_an_execution(1), own_words():
            return super().predict(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        """Returns what `fit` runs: any number of steps, and the metrics' results once behind them."""
        if self.built and hasattr(self.optimizer, "build"):
            with self.distribute_strategy.scope():
                # Else the first step makes its variables, and what made variables is traced again.
                self.optimizer.build(self.trainable_variables)
            self._ask_for_huge_pages()
        if self.averaging is not None:
            self.averaging.build()
        if self._results_of_its_own or self.run_eagerly or self.jit_compile or self._most_steps == 1:
            with self._steps_an_execution(self._most_steps):  # the function that Keras makes for one step has no loop
                return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = self.train_tf_function = tf.function(self._execution, reduce_retracing=True)
        return self.train_function

    def _ask_for_huge_pages(self) -> None:
        ask, self._huge_pages_asked = self._huge_pages and not self._huge_pages_asked, True
        if ask and tf.config.list_logical_devices()[-1].device_type == "CPU":
            for variable in (*self.trainable_variables, *self.optimizer.variables):
                if variable.shape.num_elements() * variable.dtype.size >= _LARGE:
                    # The buffer itself: nothing has written rows to it yet, after which reading copies.
                    use_huge_pages(memoryview(variable.read_value()))

    @property
    def _results_of_its_own(self) -> bool:
        """Whether a subclass, or who set the attribute, says what a step returns."""
        return getattr(self.train_step, "__func__", None) is not TaskModel.train_step

    def _execution(self, iterator: Any) -> dict[str, tf.Tensor]:
        # Keras asks the metrics in every step: a fifth of a small model's step, for results that nobody reads.
        for _ in tf.range(private.steps_per_execution(self).value()):
            self.distribute_strategy.run(self._counted_step, args=(next(iterator),))
        return {metric.name: metric.result() for metric in self.metrics}

    def _counted_step(self, inputs: Any) -> None:
        loss = self.take_step(inputs)
        with tf.control_dependencies([] if loss is None else [loss]):  # a step that fails does not count
            private.steps_taken(self).assign_add(1)

    @property
    def _most_steps(self) -> int:
        # Replicas cannot join gradients of different lengths in a loop: TensorFlow aborts it.
        strategy = self.distribute_strategy
        alone = not isinstance(strategy, tf.distribute.ParameterServerStrategy) and strategy.num_replicas_in_sync == 1
        return _STEPS if alone else 1

    @contextmanager
    def _steps_an_execution(self, steps: int) -> Iterator[None]:
        """Sets Keras' number while `steps_per_execution` is "auto"."""
        before = private.steps_per_execution(self)
        if before is None or not self._auto_steps:
            yield
            return
        was = before.numpy().item()
        before.assign(steps)
        try:
            yield
        finally:
            before.assign(was)

    @property
    def is_binary(self) -> bool:
        """Whether the model returns the logit of a probability."""
        return isinstance(private.task_loss(self.task), keras.losses.BinaryCrossentropy)

    @property
    def written_task(self) -> Any:
        """The task as a config holds it: its name, or what `nfm_tfrs.models.tasks.task_config` returns."""
        return self._task_name or task_config(self.task)

    @property
    def objective(self) -> tuple[str, Literal["max", "min"]]:
        """What to choose on: the name of a validation metric, and whether more or less of it is better."""
        if self._task_name is None:
            return "val_loss", "min"
        return ("val_auc", "max") if self.is_binary else ("val_rmse", "min")

    @property
    def metrics(self) -> list[Any]:
        """The losses, as means over all rows, the task's metrics and, of scaled losses, the steps skipped."""
        own = [self._loss, self._regularization_loss, self._total_loss, *self.task.metrics]
        own += [self._skipped_steps] if self._scales_losses else []
        return own + [metric for metric in super().metrics if metric not in own]

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Returns the mean loss of a batch, float32 scalar, without regularisation, and updates the task's metrics.

        Its gradients are those of what training learns from, see `Losses`, where that is more than its value says.
        """
        private.set_metrics(self, self.task.metrics)  # from here on a model around this one reports them too
        columns, labels, weights = self._unpacked(inputs)
        labels = as_target("The label", labels)
        weights = None if weights is None else as_target("The weight", weights)
        features = getattr(self, "features", None)
        checks = batch_checks(features, columns, labels, weights, is_binary=self.is_binary, label=self.label)
        chosen = Losses(self.label_smoothing, self.self_ensemble) if training else Losses()
        with checked(checks, self._place.words(training), private.steps_taken(self)):
            learned = self._twice(columns) if chosen.self_ensemble else self.predictions_to_learn(columns, training)
            # Else what looks at their shapes alone, such as gradients, may fail before the checks have spoken.
            labels, weights = tf.identity(labels), None if weights is None else tf.identity(weights)
        if chosen.self_ensemble:
            labels, weights = twice(labels), None if weights is None else twice(weights)
        several = learned.shape.rank == 2 and (learned.shape[1] or 1) > 1
        predictions = tf.reduce_mean(learned, axis=1, keepdims=True) if several else learned
        losses = self.task(labels=labels, predictions=predictions, sample_weight=weights, training=training)
        loss = mean(losses)
        if not training or (chosen == Losses() and not several):
            return loss
        objective = chosen.objective(private.task_loss(self.task), labels, learned, weights)
        return tf.stop_gradient(loss - objective) + objective  # the value of the one, and the gradients of the other

    def predictions_to_learn(self, columns: Any, training: bool) -> tf.Tensor:
        """Returns what a step learns from, float32 `[batch, k]`: its loss is the sum of the columns' losses.

        What is predicted and reported is their mean. A subclass with several writes it.

        Args:
            columns: A batch, as the model is called with.
            training: Whether it is one of training.
        """
        outputs: tf.Tensor = self(columns, training=training)
        return outputs

    def _twice(self, columns: Any) -> tf.Tensor:
        """What a step learns from of two draws of dropout, one behind the other, [2 · batch, k]."""
        check_draws(self)
        if self.looks_up_once:
            with run_twice(self):
                return self.predictions_to_learn(columns, True)
        return tf.concat([self.predictions_to_learn(columns, True) for _ in range(2)], axis=0)

    @property
    def looks_up_once(self) -> bool:
        """Whether `call` returns two passes where `runs_twice` says so; else the model is called twice."""
        return False

    def train_step(self, inputs: Any) -> dict[str, tf.Tensor]:
        """Takes a step, as Keras' `train_step` does; `fit` asks the metrics once for several of them."""
        self.take_step(inputs)
        return {metric.name: metric.result() for metric in self.metrics}

    def take_step(self, inputs: Any) -> tf.Tensor:
        """Trains on a batch, and updates the metrics; returns the loss that the gradients are of, float32 scalar.

        Args:
            inputs: `(columns, label[, weight])`, or one dict with the label inside.
        """
        now = None if self.averaging is None else self.averaging.settle()
        before = moved_forward(self)
        with tf.GradientTape() as tape:
            total = self._tracked_loss(inputs, training=True)
            # Keras' optimizers add the replicas' gradients up.
            objective = total / _num_replicas()
            if self._scales_losses:
                objective = self.optimizer.get_scaled_loss(objective)
        gradients = tape.gradient(objective, self.trainable_variables)
        rows = tf.size(self._unpacked(inputs)[1])
        guarded = finite_step(
            total,
            gradients,
            self.trainable_variables,
            before,
            rows,
            self._place.words(True),
            private.steps_taken(self),
            scaled=self._scales_losses,
        )
        with guarded as gradients:
            if self.averaging is not None:
                self.averaging.settle_rows(now, gradients, self.trainable_variables)
            if self._scales_losses:
                self._apply_scaled(self.optimizer.get_unscaled_gradients(gradients))
            else:
                self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return total

    def test_step(self, inputs: Any) -> dict[str, tf.Tensor]:
        self._tracked_loss(inputs, training=False)
        return {metric.name: metric.result() for metric in self.metrics if metric is not self._skipped_steps}

    def predict_step(self, inputs: Any) -> Any:
        columns = keras.utils.unpack_x_y_sample_weight(inputs)[0]
        features = getattr(self, "features", None)
        checks = length_checks(features, columns, {}, may_be_empty=True) + value_checks(features, columns)
        with checked(checks, self._place.words(False), private.steps_taken(self)):
            return self(columns, training=False)

    @property
    def _scales_losses(self) -> bool:
        return isinstance(getattr(self, "optimizer", None), keras.mixed_precision.LossScaleOptimizer)

    def _apply_scaled(self, gradients: Any) -> None:
        """Applies unscaled gradients where all are finite; counts the step as skipped, and not as a step, else."""
        optimizer = self.optimizer
        before = optimizer.loss_scale
        optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        if not optimizer.dynamic:  # applied, whatever the gradients
            return
        # An overflow halves the scale, and at 1, the lowest, only starts the count of good steps anew.
        after = optimizer.loss_scale
        anew = tf.logical_and(tf.equal(after, 1.0), tf.equal(optimizer.dynamic_counter, 0))
        skipped = tf.logical_or(after < before, tf.logical_and(anew, tf.equal(before, 1.0)))
        # Keras counts a skipped step as one, and a schedule would run ahead of the steps that were taken.
        optimizer.iterations.assign_sub(tf.cast(skipped, tf.int64))
        self._skipped_steps.update_state(tf.cast(skipped, tf.float32) / _num_replicas())

    def _tracked_loss(self, inputs: Any, training: bool) -> tf.Tensor:
        loss = self.compute_loss(inputs, training=training)
        regularization_loss = tf.add_n([tf.cast(tf.reduce_sum(extra), tf.float32) for extra in self.losses] or [0.0])
        unit = self._loss_unit
        rows = tf.shape(self._unpacked(inputs)[1])[0]  # the last batch may be smaller
        self._loss.update_state(loss, sample_weight=rows)
        self._regularization_loss.update_state(unit * regularization_loss, sample_weight=rows)
        self._total_loss.update_state(loss + unit * regularization_loss, sample_weight=rows)
        return loss / unit + regularization_loss

    @property
    def _loss_unit(self) -> Any:
        """What the loss is divided by where gradients are taken; it is reported as it is."""
        return 1.0

    def targets(self, inputs: Any) -> tuple[Any, Any]:
        """Returns the labels of a batch as `fit` takes it, and its weights: ones where it has none."""
        _, labels, weights = self._unpacked(inputs)
        return labels, tf.ones_like(labels, tf.float32) if weights is None else weights

    def _unpacked(self, inputs: Any) -> tuple[Any, Any, Any]:
        columns, labels, weights = keras.utils.unpack_x_y_sample_weight(inputs)
        if labels is None and self.label is not None:
            if self.label not in columns:
                raise missing_column(self.label, columns, reader="the label")
            labels = columns[self.label]
        if labels is None:
            raise no_labels()
        return columns, labels, weights

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        if config and self._auto_steps:
            config["steps_per_execution"] = "auto"
        if config and self._huge_pages:
            config = {**config, "huge_pages": True}
        if config and self.averaging is not None:
            config = {**config, "averaging": self.averaging.decay}
        return config

    def set_weights(self, weights: Any) -> None:
        """Sets the weights as Keras' `set_weights` does; averages begin anew with them."""
        self._average_anew()
        super().set_weights(weights)

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Loads weights as Keras' `load_weights` does; averages that the file does not hold begin anew with them."""
        self._average_anew()
        return super().load_weights(*args, **kwargs)

    def _average_anew(self) -> None:
        if self.averaging is not None and not self.averaging.is_in_place:
            self.averaging.reset()

    def save_own_variables(self, store: Any) -> None:
        """Saves, beside its own weights, the state of the loss scale, which Keras leaves out of `.keras` files."""
        super().save_own_variables(store)
        for name, variable in self.scale_state.items():
            store[name] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables({name: store[name] for name in store.keys() if name not in _SCALE_STATE})  # noqa: SIM118
        for name, variable in self.scale_state.items():
            if name in store.keys():  # noqa: SIM118
                variable.assign(store[name][()])

    @property
    def scale_state(self) -> dict[str, Any]:
        """The variables of a loss scale that follows the gradients, by the names under which they are saved."""
        if not self._scales_losses or not self.optimizer.dynamic:
            return {}
        return dict(zip(_SCALE_STATE, private.loss_scale_state(self.optimizer), strict=True))

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was; Keras skips this where `compile` is overridden."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)


def _nothing(store: Any) -> None:
    """Saves, or loads, nothing."""


def _num_replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync
