"""How a model is trained, judged and used."""

from typing import TYPE_CHECKING

from nfm_tfrs import lazy

if TYPE_CHECKING:
    from nfm_tfrs.training.evaluate import judge as judge
    from nfm_tfrs.training.evaluate import predict as predict
    from nfm_tfrs.training.fit import train as train

lazy.show(
    __name__,
    {
        "nfm_tfrs.training.evaluate": ("judge", "predict"),
        "nfm_tfrs.training.fit": ("train",),
    },
)
