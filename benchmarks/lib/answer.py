"""Scores the rows beside each SavedModel in a folder, with TensorFlow and the standard library alone.

usage: python answer.py FOLDER

Prints one JSON object: of each model the largest difference from the logits that are expected, of max(1, |logit|).
"""

import json
import os
import sys
from pathlib import Path


def values(one):
    """The values of an input as its type takes them: integers are written as text, NaN as null."""
    if one["dtype"] == "float32":
        return [float("nan") if value is None else value for value in one["values"]]
    return one["values"] if one["dtype"] == "string" else list(map(int, one["values"]))


def difference(folder):
    """The largest difference of one model."""
    import tensorflow as tf  # behind what it reads of the environment

    asked = json.loads((folder / "asked.json").read_text())
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    tensors = {name: tf.constant(values(one), one["dtype"], shape=one["shape"]) for name, one in asked["rows"].items()}
    found = serve(**tensors)["logit"].numpy().tolist()
    pairs = zip(found, asked["logits"], strict=True)
    # A NaN is the largest of all.
    return max((abs(one - other) / max(1.0, abs(other)) for one, other in pairs), key=lambda gap: (gap != gap, gap))


os.environ["CUDA_VISIBLE_DEVICES"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "-1", "3"
print(json.dumps({folder.name: difference(folder) for folder in sorted(Path(sys.argv[1]).iterdir())}))
