"""The public face as a type checker sees it; tests/test_typing.py has mypy read this file, and nothing runs it."""

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import assert_type

import nfm_tfrs
from nfm_tfrs.blocks import Cross, InteractionBlock, PooledBlock, field_pairs, present
from nfm_tfrs.data import Prepared, prepare
from nfm_tfrs.models import NFM, DeepFM, RankingModel, with_defaults
from nfm_tfrs.tuning import search
from tfrs_registry import Block, Model, get_block, get_model

T = TypeVar("T")


def returned(function: Callable[..., T]) -> T:
    """What a function returns, whatever it takes."""
    raise NotImplementedError


model = get_model("nfm", embedding_dim=8)
assert_type(model, Model)
assert_type(model.get_config(), dict[str, Any])
assert_type(model.count_params(), int)
model.compile("adam", jit_compile=True)
model.fit(None, epochs=2, verbose=0)
model.fitt()  # type: ignore[attr-defined]
if isinstance(model, NFM):
    assert_type(model.embedding_dim, int)
kept: Model = RankingModel(embedding_dim=8)
kept = DeepFM()

assert_type(DeepFM(dropout=0.1), DeepFM)
DeepFM(dropout="much")  # type: ignore[arg-type]
nfm_tfrs.models.DeepFM(3)  # type: ignore[arg-type]
assert_type(nfm_tfrs.grow(DeepFM(), {}, nfm_tfrs.Growth(init="random")), DeepFM)


@with_defaults(hidden_units=(8,))
class Small(DeepFM):
    pass


assert_type(Small(), Small)

block = get_block("cross")
assert_type(block, Block)
assert_type(block.cost(fields=3, dim=4).parameters, int)
own: InteractionBlock = Cross(num_layers=2)
kept_block: Block = own
pooled: type[InteractionBlock] = PooledBlock
assert_type(field_pairs(3), list[tuple[int, int]])
present(1, None, 2, 3)  # type: ignore[call-arg]

assert_type(returned(prepare), Prepared)
assert_type(returned(nfm_tfrs.data.prepare), Prepared)
wrong = (
    prepare.nothing,  # type: ignore[attr-defined]
    search.nothing,  # type: ignore[attr-defined]
    nfm_tfrs.nothing,  # type: ignore[attr-defined]
    nfm_tfrs.tuning.nothing,  # type: ignore[attr-defined]
)
