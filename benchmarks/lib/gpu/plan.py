"""What benchmarks/gpu.py measures: precisions, configurations, sizes. The standard library only."""

import dataclasses
import itertools
from typing import Any, Literal, NamedTuple

K = 1024
PRECISIONS = {  # the model's dtype, and whether float32 products may round to TF32, as TensorFlow lets them
    "float32": ("float32", False),
    "tf32": ("float32", True),
    "bfloat16": ("mixed_bfloat16", True),
    "float16": ("mixed_float16", True),
}
BLOCKS = ("bi_interaction", "cross", "self_attention", "cin")
SLOTS = {"LazyAdam": 2, "Keras Adagrad": 1}  # what an optimizer keeps for each weight
NARROW_UNITS, WIDE_UNITS = (256, 128), (1024, 512, 256)


class Variant(NamedTuple):
    """How a configuration computes."""

    precision: str
    xla: bool = False

    @property
    def name(self) -> str:
        return self.precision + ", XLA" * self.xla


ALL = tuple(Variant(precision, xla) for precision in PRECISIONS for xla in (False, True))
SOME = tuple(variant for variant in ALL if variant.precision in ("tf32", "bfloat16"))


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A model and its batch, and the variants that are measured of it."""

    name: str
    batch_size: int = 32 * K
    embedding_dim: int = 16
    hidden_units: tuple[int, ...] = NARROW_UNITS
    block: str = "bi_interaction"
    structure: Literal["stacked", "parallel", "concat"] = "stacked"
    numeric: Literal["field", "concat", "bottom_mlp"] = "concat"
    optimizer: str = "LazyAdam"
    learning_rate: float = 1e-3
    variants: tuple[Variant, ...] = SOME


_QUALITY = Configuration("quality", 8 * K, learning_rate=5e-3, variants=(*ALL[::2], Variant("bfloat16", True)))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is run.

    Args:
        configurations: What is measured, the most telling first, should time run out.
        vocabulary_rows: Rows of vocabulary of all fields together.
        pool: Number of batches that a turn takes.
        copied_megabytes: Size of the array that is copied to measure the bandwidth.
        matrix_size: Rows of the square matrices that are multiplied to measure the FLOPs a second.
        rate_seconds: Seconds that each of these two measurements lasts.
        quality: Configuration whose AUC is measured.
        quality_values: Number of ids of each field in the measurement of the AUC.
        quality_steps: Number of training steps before the AUC is measured.
        seeds: Seeds of the weights in the measurement of the AUC.
    """

    configurations: tuple[Configuration, ...]
    vocabulary_rows: int = 1_000_000
    pool: int = 4
    copied_megabytes: int = 1024
    matrix_size: int = 8192
    rate_seconds: float = 1.0
    quality: Configuration = _QUALITY
    quality_values: int = 1000
    quality_steps: int = 600  # then it no longer rises fast
    seeds: tuple[int, ...] = (1, 2, 3)

    def everywhere(self, variants: tuple[Variant, ...]) -> "Plan":
        """Returns the plan with these variants of each configuration."""
        configurations = tuple(dataclasses.replace(one, variants=variants) for one in self.configurations)
        return dataclasses.replace(self, configurations=configurations)


WIDE_MLP = Configuration("wide MLP", 128 * K, hidden_units=WIDE_UNITS, structure="concat", variants=ALL)
EMBEDDING_BOUND = Configuration("embedding-bound", 128 * K, embedding_dim=128, variants=ALL)
PLAN = Plan(
    (
        Configuration("base", variants=ALL),
        WIDE_MLP,
        EMBEDDING_BOUND,
        *(Configuration(f"batch {size}k", size * K) for size in (8, 128, 256)),
        *(Configuration(f"dim {dim}", embedding_dim=dim) for dim in (64, 128)),
        Configuration("MLP 1024, 512, 256", hidden_units=WIDE_UNITS),
        *(Configuration(block, block=block) for block in BLOCKS[1:]),
        Configuration("numbers as fields", numeric="field"),
        Configuration("Keras Adagrad", optimizer="Keras Adagrad"),
    )
)
GRID = dataclasses.replace(  # hours
    PLAN,
    configurations=tuple(
        Configuration(f"{size}k, dim {dim}, MLP {units[0]}, {block}", size * K, dim, units, block)
        for size, dim, units, block in itertools.product(
            (8, 32, 128, 256), (16, 64, 128), (NARROW_UNITS, WIDE_UNITS), BLOCKS
        )
    ),
)
_TINY: dict[str, Any] = {"batch_size": 32, "embedding_dim": 4, "hidden_units": (8,)}
QUICK = Plan(
    (
        dataclasses.replace(
            WIDE_MLP, **_TINY, variants=(Variant("float32"), Variant("tf32"), Variant("bfloat16", True))
        ),
        dataclasses.replace(EMBEDDING_BOUND, **_TINY, variants=(Variant("float16"),)),
        Configuration("cin", **_TINY, block="cin", optimizer="Keras Adagrad", variants=(Variant("tf32", True),)),
    ),
    vocabulary_rows=100,
    pool=2,
    copied_megabytes=1,
    matrix_size=64,
    rate_seconds=0.01,
    quality=Configuration("quality", **_TINY, variants=(Variant("bfloat16"),)),
    quality_values=3,
    quality_steps=20,
    seeds=(1,),
)
