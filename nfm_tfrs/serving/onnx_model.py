"""Writes a model as one ONNX file: its encoder in ONNX's own nodes, its dense part by tf2onnx."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
from onnx import compose, numpy_helper

from nfm_tfrs.embedding.inference import PaddedBag
from nfm_tfrs.features.keys import IDS, NUMBERS, bag_key
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.serving.onnx_encoder import IDS as ENCODED_IDS
from nfm_tfrs.serving.onnx_encoder import (
    IR_VERSION,
    ML_OPSET,
    OPSET,
    bag_name,
    encoder_model,
    weights_name,
)
from nfm_tfrs.serving.onnx_encoder import NUMBERS as ENCODED_NUMBERS
from nfm_tfrs.serving.quantized import Table, quantized_tables
from nfm_tfrs.serving.runtime import MODEL
from nfm_tfrs.serving.served import Served
from nfm_tfrs.serving.signature import Signature

_MOST_BYTES = 2**31 - 2**20  # of a protocol buffer; a larger model's arrays lie in a file beside it


def write_onnx(model: Any, signature: Signature, folder: Path) -> None:
    """Writes `model.onnx`, and beside it `model.onnx.data` where it is above 2 GB.

    Args:
        model: A model that computes in float32.
        signature: What the export takes and gives.
        folder: The export's folder.
    """
    tables = quantized_tables(model, signature.table)
    dense, names, constants = _dense(model, signature, tables)
    encoder = encoder_model(model.features, signature.inputs)
    links = [(output.name, names[output.name]) for output in encoder.graph.output if output.name in names]
    whole = compose.merge_models(encoder, dense, io_map=links)
    # Behind the merge, which checks what it made, and nothing above 2 GB can be checked.
    inputs = [one for one in whole.graph.input if one.name not in constants]
    del whole.graph.input[:]
    whole.graph.input.extend(inputs)
    for name, array in constants.items():
        whole.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
    # What no node reads, as numbers that a model of sums leaves out, is no output of the whole.
    kept = [output for output in whole.graph.output if output.name in signature.outputs]
    del whole.graph.output[:]
    whole.graph.output.extend(kept)
    for output in whole.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "rows"
    path = folder / MODEL
    large = sum(array.nbytes for table in tables for array in table if array is not None) > _MOST_BYTES
    if not large:
        onnx.checker.check_model(whole)
    onnx.save(whole, str(path), save_as_external_data=large, location=f"{MODEL}.data" if large else None)


def _dense(
    model: Any, signature: Signature, tables: Sequence[Table]
) -> tuple[Any, dict[str, str], dict[str, np.ndarray]]:
    """The dense part, the names of its inputs by those of the encoder's outputs, and what other inputs are to hold."""
    features = model.features
    specs = {}
    if features.single:
        specs[ENCODED_IDS] = tf.TensorSpec([None, len(features.single)], tf.int64)
    if features.numbers:
        specs[ENCODED_NUMBERS] = tf.TensorSpec([None, len(features.numbers)], tf.float32)
    for bag in features.bags:
        specs[bag_name(bag)] = tf.TensorSpec([None, None], tf.int64)
        if bag.weights:
            specs[weights_name(bag)] = tf.TensorSpec([None, None], tf.float32)
    encoded = list(specs)
    # Inputs of the traced function, whose constants may be no larger than 2 GB together; made constants below.
    held = {
        f"table_{number}/{name}": array
        for number, table in enumerate(tables)
        for name, array in table._asdict().items()
        if array is not None
    }
    specs |= {name: tf.TensorSpec(array.shape, tf.as_dtype(array.dtype)) for name, array in held.items()}

    def compute(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = dict(zip(specs, tensors, strict=True))
        arrays = [
            Table(**{name: given.get(f"table_{number}/{name}") for name in Table._fields})
            for number in range(len(tables))
        ]
        there = next(given[name] for name in encoded)
        batch: dict[str, Any] = {
            IDS: given.get(ENCODED_IDS),
            NUMBERS: given[ENCODED_NUMBERS] if features.numbers else tf.zeros([tf.shape(there)[0], 0]),
        }
        for bag in features.bags:
            batch[bag_key(bag.name)] = PaddedBag(given[bag_name(bag)], given.get(weights_name(bag)))
        served = Served(model, signature.inputs, signature.adjustment, tables=arrays)
        return served.outputs(served.scored(batch))

    signatures = [tf.TensorSpec(spec.shape, spec.dtype, f"x{at}") for at, spec in enumerate(specs.values())]
    function = tf.function(compute, autograph=False, input_signature=signatures)
    loggers = [logging.getLogger("tf2onnx"), tf.get_logger()]
    before = [logger.level for logger in loggers]
    for logger in loggers:  # whose warnings are of what is not asked for
        logger.setLevel(logging.ERROR)
    try:
        made, _ = tf2onnx.convert.from_function(function, input_signature=signatures, opset=OPSET)
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
    made.ir_version = IR_VERSION
    _set_opsets(made)
    inputs = {one.name.partition(":")[0]: one.name for one in made.graph.input}
    names = {name: inputs[f"x{at}"] for at, name in enumerate(specs) if f"x{at}" in inputs}
    # Columns may be called as tensors of the graph.
    made = compose.add_prefix(made, prefix="dense/", rename_outputs=False)
    constants = {f"dense/{names[name]}": array for name, array in held.items()}
    return made, {name: f"dense/{names[name]}" for name in encoded if name in names}, constants


def _set_opsets(model: Any) -> None:
    """Names the versions of operators that the encoder names: models are merged only where both do."""
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("ai.onnx.ml", ML_OPSET)])
