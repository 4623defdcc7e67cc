"""What a table in int8 or float16 costs and saves: AUC and log loss of exports of the default NFM.

usage: python benchmarks quantized [ratings.parquet] [--quick]

On MovieLens-small (if its ratings.parquet is given) and on a generated click log, three seeds: each model is exported
as it is, with its table in int8, and in float16, as a SavedModel and as an ONNX file, and judged on the validation
rows. The file's size is that at dim 16, where a row of the table is 17 numbers.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from lib.places import BENCHMARKS
from lib.timing import machine, versions

from nfm_tfrs.data.parts import encode_part
from nfm_tfrs.data.readers.table import read_table
from nfm_tfrs.features.feature import CategoricalFeature
from nfm_tfrs.features.spec import FeatureSpec
from nfm_tfrs.keras_compat import tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.serving import export
from nfm_tfrs.target import Target
from quality.movielens import fitted, prepared, spread
from quality.optimizers import LOG_ROWS, clicks

RESULTS = BENCHMARKS / "results" / "quantized.json"
PACKAGES = ("nfm-tfrs", "tensorflow", "tf-keras", "onnx", "onnxruntime", "tf2onnx", "numpy")
FORMS, TABLES = ("savedmodel", "onnx"), ("int8", "float16")
DIM = 16


def measured(model: Any, data: Any, folder: Path) -> dict[str, dict[str, float]]:
    """What each quantization changes on the validation rows, and the share of the file's size that is left."""
    plain = {form: export(model, folder / form, format=form).bytes for form in FORMS}
    found: dict[str, dict[str, float]] = {}
    for how in TABLES:
        one: dict[str, float] = {}
        for form in FORMS:
            written = export(model, folder / f"{form} {how}", format=form, quantize=how, valid=data.valid)
            one[f"{form} bytes"], one[f"{form} share"] = written.bytes, written.bytes / plain[form]
        own, served = written.quality["model"], written.quality["export"]
        found[how] = {**one, **{f"{metric} less": served[metric] - own[metric] for metric in ("auc", "log_loss")}}
    return found


def sizes(num_rows: int) -> dict[str, dict[str, float]]:
    """The share of an export's size that is left of a table of so many rows, made and not trained."""
    features = FeatureSpec(
        (CategoricalFeature("a", vocabulary_size=num_rows), CategoricalFeature("b", vocabulary_size=9))
    )
    rows = pa.table({"a": list(range(100)), "b": [n % 9 for n in range(100)], "y": [n % 2 for n in range(100)]})
    model = NFM(features, embedding_dim=DIM, hidden_units=(64,))
    valid = encode_part(rows, model.encoder, Target.parse("y"))
    found: dict[str, dict[str, float]] = {how: {} for how in TABLES}
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            plain = export(model, f"{folder}/{form}", format=form).bytes  # type: ignore[arg-type]
            for how in TABLES:
                of = export(model, f"{folder}/{form} {how}", format=form, quantize=how, valid=valid)  # type: ignore[arg-type]
                found[how][f"{form} share"] = of.bytes / plain
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, exports, prints, writes and returns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path, nargs="?", help="of MovieLens-small; without it only the click log")
    parser.add_argument("--quick", action="store_true", help="few clicks, one seed, one epoch; writes nothing")
    options = parser.parse_args(arguments)
    seeds, epochs = ((1,), 1) if options.quick else ((1, 2, 3), 30)
    sets = {"movielens-small": prepared(read_table(options.ratings), None)} if options.ratings else {}
    sets["click log"], _ = clicks(2000 if options.quick else LOG_ROWS)
    results: dict[str, Any] = {"machine": machine(), "versions": versions(PACKAGES), "seeds": len(seeds), "data": {}}
    num_rows = 1000 if options.quick else 1_000_000
    results["shares"] = {"rows": num_rows, "tables": sizes(num_rows)}
    print(f"shares of the size at {num_rows:,} rows: {results['shares']['tables']}", flush=True)
    for name, data in sets.items():
        runs = []
        for seed in seeds:
            model = fitted(data, {"model": {"embedding_dim": DIM}}, seed, epochs)
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measured(model, data, Path(folder)))
        results["data"][name] = {
            "rows of the table": data.features.num_rows,
            "tables": {how: spread([run[how] for run in runs]) for how in TABLES},
        }
        for how, one in results["data"][name]["tables"].items():
            shown = "  ".join(f"{metric} {of['mean']:.4g}" for metric, of in one.items())
            print(f"{name}, {how}: {shown}", flush=True)
        if not options.quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    tf.config.set_visible_devices([], "GPU")
    main()
