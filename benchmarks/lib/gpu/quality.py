"""Quality by precision on the device: the AUC that the same steps from the same weights reach."""

import dataclasses
from typing import Any

import numpy as np

from lib.gpu.parts import SEED, Trainer
from lib.gpu.plan import Plan
from nfm_tfrs.features.encoder import FeatureEncoder
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.metrics.exact import auc_of

FIELDS = 8
MOST_TEST_ROWS = 65_536


def clicks(rows: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 ids `[rows, fields]`, and labels `[rows]` drawn from the pairwise products of hidden vectors of the ids."""
    rng = np.random.default_rng(SEED)
    hidden = rng.standard_normal((FIELDS, values, 4), np.float32)
    ids = rng.integers(0, values, (rows, FIELDS))
    vectors = hidden[np.arange(FIELDS), ids]  # [rows, fields, 4]
    logits = (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1)
    return ids, (rng.random(rows) < 1 / (1 + np.exp(-2 * logits / logits.std()))).astype(np.float32)


def quality(plan: Plan) -> dict[str, Any]:
    """AUC on rows not trained on, after the same steps from the same weights in each precision."""
    size = plan.quality.batch_size
    trained, tested = plan.quality_steps * size, min(MOST_TEST_ROWS, 100 * size)
    ids, labels = clicks(trained + tested, plan.quality_values)
    names = [f"c{n}" for n in range(FIELDS)]
    spec = FeatureSpec(tuple(CategoricalFeature(name, vocabulary_size=plan.quality_values) for name in names))
    encoded, targets = FeatureEncoder(spec)(dict(zip(names, ids.T, strict=True))), tf.constant(labels)

    def rows(start: int, count: int) -> Any:
        return tf.nest.map_structure(lambda column: column[start : start + count], (encoded, targets))

    batches = [rows(start, size) for start in range(0, trained, size)]
    found: dict[str, Any] = {}
    for variant in plan.quality.variants:
        areas = []
        for seed in plan.seeds:
            trainer = Trainer(plan.quality, variant, spec, seed)
            trainer.train(batches)
            scores = np.asarray(trainer.scores(rows(trained, tested)[0]), np.float64)
            areas.append(auc_of(scores)(labels[trained:], 1 - labels[trained:]))
            keras.backend.clear_session()
        found[variant.name] = areas
        print(f"  {variant.name:14} AUC {', '.join(f'{area:.4f}' for area in areas)}", flush=True)
    return {
        "configuration": dataclasses.asdict(plan.quality),
        "steps": plan.quality_steps,
        "seeds": list(plan.seeds),
        "auc": found,
    }
