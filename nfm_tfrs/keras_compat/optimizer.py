"""Keras' optimizers: what half precision wraps, and one with public names for the hooks that Keras keeps to itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nfm_tfrs.keras_compat.packages import keras


def inner_optimizer(optimizer: Any) -> Any:
    """Returns the optimizer itself: the one inside where half precision wraps it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


class OpenOptimizer(keras.optimizers.Optimizer):
    """A Keras optimizer whose subclass writes `add_slots`, `update_step` and, where it needs to, `merged`.

    Keras merges the occurrences of a row only after it has clipped them, and decays whole variables: a subclass does
    both itself. Everything else is Keras'.

    Args:
        learning_rate: A rate or a schedule.
        **kwargs: Further arguments of `tf.keras.optimizers.Optimizer`.
    """

    def __init__(self, learning_rate: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Keras leaves the rate to each of its optimizers, in this form.
        self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, var_list: Sequence[Any]) -> None:
        """Makes what is kept for each variable, once; Keras calls this."""
        super().build(var_list)
        if not getattr(self, "_built", False):  # Keras asks for it, and leaves it to each of its optimizers to set
            self._built = True
            self.add_slots(var_list)

    def add_slots(self, variables: Sequence[Any]) -> None:
        """Makes what is kept for each variable."""
        raise NotImplementedError

    def merged(self, gradients: Iterable[Any]) -> list[Any]:
        """Returns the gradients as they are to be clipped; called first, once those of all replicas are joined."""
        return list(gradients)

    def decays_weights(self, variable: Any) -> bool:
        """Returns whether the weights of a variable are to decay, by `weight_decay` and what is excluded from it."""
        return bool(self.weight_decay) and self._use_weight_decay(variable)

    def slot_index(self, variable: Any) -> int:
        """Returns the place of a variable among those given to `build`."""
        index: int = self._index_dict[self._var_key(variable)]
        return index

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self._serialize_hyperparameter(self._learning_rate)}

    def _clip_gradients(self, grads: Iterable[Any]) -> Any:
        return super()._clip_gradients(self.merged(grads))

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Returns the gradients as they are: they are merged."""
        return grads

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Does nothing: `update_step` decays what it moves."""


# What is used, and what for: a test finds each name, or says with the docstring what is lost.
PRIVATE_NAMES: Mapping[str, Any] = {
    "tf_keras.optimizers.Optimizer._build_learning_rate": OpenOptimizer,
    "tf_keras.optimizers.Optimizer._learning_rate": OpenOptimizer,
    "tf_keras.optimizers.Optimizer._built": OpenOptimizer.build,
    "tf_keras.optimizers.Optimizer._use_weight_decay": OpenOptimizer.decays_weights,
    "tf_keras.optimizers.Optimizer._index_dict": OpenOptimizer.slot_index,
    "tf_keras.optimizers.Optimizer._var_key": OpenOptimizer.slot_index,
    "tf_keras.optimizers.Optimizer._serialize_hyperparameter": OpenOptimizer,
    "tf_keras.optimizers.Optimizer._clip_gradients": OpenOptimizer.merged,
    "tf_keras.optimizers.Optimizer._deduplicate_sparse_grad": OpenOptimizer.merged,
    "tf_keras.optimizers.Optimizer._apply_weight_decay": OpenOptimizer.decays_weights,
}
