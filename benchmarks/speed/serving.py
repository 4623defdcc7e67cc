"""Time of scoring a few rows through an export, beside version 0.1.0's and the TensorFlow peers' best ways; ranking.

usage: python benchmarks serving [--quick] [--rounds 9] [--peers NAME ...]

Ours are raw columns by name: one row as a dict, more as arrays, through `nfm_tfrs.serving.load` of a SavedModel and of
an ONNX file (on one thread), each in a process of its own. The peers' rows lie ready as ids and numbers in their own
tensors. Each round gives the median call (p50). The signature `rank` is held against `serving_default` on the same 200
candidates, with a history of 100 values and without.
"""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lib.reports import BEFORE, SEED, TENSORFLOW_PEERS, Options, Pair, Report, comparison, parse, sides_of
from lib.runners import Process, Side, Start, ask_in_turn, fleet, median_call
from lib.timing import take_turns, times_as_fast

from nfm_tfrs.features.feature import CategoricalFeature, MultiCategoricalFeature
from nfm_tfrs.keras_compat import keras, tf
from nfm_tfrs.models.nfm import NFM
from nfm_tfrs.serving import export
from nfm_tfrs.serving.runtime import SavedModel

PEERS = (*TENSORFLOW_PEERS, BEFORE)
SAVED, ONNX = (Side("own", "adam", {"way": way}) for way in ("savedmodel", "onnx"))
BEFORE_SIDE = Side(BEFORE, "adam", {"way": "predict_on_batch"})
ROWS = (1, 100, 1000)
QUICK_VOCABULARY = 1000
CANDIDATES, HISTORY, FIELDS, VOCABULARY = 200, 100, 12, 100_000


def compared(peers: Sequence[str]) -> list[Pair]:
    """Pairs of both exports with version 0.1.0's, and of the SavedModel with the other peers."""
    found = [Pair(side, BEFORE_SIDE) for side in (SAVED, ONNX) if BEFORE in peers]
    return found + [Pair(SAVED, Side(peer, "adam")) for peer in peers if peer != BEFORE]


def ranking(with_history: bool, rounds: int, vocabulary: int) -> dict[str, Any]:
    """How many times as fast `rank` is as `serving_default` on the same candidates."""
    keras.utils.set_random_seed(SEED)
    spec: list[Any] = [CategoricalFeature(f"c{n}", vocabulary_size=vocabulary) for n in range(FIELDS)]
    user = [f"c{n}" for n in range(FIELDS // 2)]
    if with_history:
        spec.append(MultiCategoricalFeature("history", vocabulary_size=vocabulary, combiner="mean"))
        user.append("history")
    rng = np.random.default_rng(SEED)
    rank: dict[str, Any] = {}
    flat: dict[str, Any] = {}
    for n in range(FIELDS):
        values = rng.integers(0, vocabulary, 1 if n < FIELDS // 2 else CANDIDATES)
        rank[f"c{n}"], flat[f"c{n}"] = tf.constant(values), tf.constant(np.resize(values, CANDIDATES))
    if with_history:
        bag = rng.integers(0, vocabulary, HISTORY)
        rank |= {"history": tf.constant(bag), "history_lengths": tf.constant([HISTORY], tf.int64)}
        flat["history"] = tf.constant(np.tile(bag, CANDIDATES))
        flat["history_lengths"] = tf.fill([CANDIDATES], tf.constant(HISTORY, tf.int64))
    with tempfile.TemporaryDirectory() as folder:
        written = export(NFM(spec, hidden_units=(64,)), f"{folder}/served", user=user)
        runtime = SavedModel(written.folder, written.signature)

    def calling(name: str, given: dict[str, Any]) -> Callable[[], Any]:
        function = runtime.function(name)
        return lambda: function(**given)["logit"].numpy()

    sides = {name: calling(name, given) for name, given in (("rank", rank), ("serving_default", flat))}
    np.testing.assert_allclose(sides["rank"](), sides["serving_default"](), rtol=1e-4, atol=1e-5)
    times = dict(zip(sides, take_turns(list(sides.values()), rounds).T, strict=True))
    found = times_as_fast(times["rank"], times["serving_default"])
    low, high = found["interval"]
    print(f"  rank {found['median']:.2f}x as fast as flat [{low:.2f}, {high:.2f}]", flush=True)
    return {"milliseconds": {name: float(np.median(one)) for name, one in times.items()}, **found}


def measure(report: Report, options: Options, start: Start) -> None:
    """Measures rows through exports, then ranking."""
    chosen = compared(options.peers)
    found = report.measured["rows"] = {}
    with fleet(
        sides_of([SAVED, ONNX], chosen), "W1", QUICK_VOCABULARY if options.quick else None, start=start
    ) as running:
        report.ran(running)
        for rows in ROWS:
            print(f"W1: milliseconds of scoring {rows} rows", flush=True)
            times = ask_in_turn(running, median_call("predict", rows=rows), options.rounds)
            found[str(rows)] = comparison(times, chosen)
    report.write()
    ranks = report.measured["rank"] = {}
    for name, with_history in (("with a history of 100", True), ("without a history", False)):
        print(f"{CANDIDATES} candidates {name}", flush=True)
        ranks[name] = ranking(with_history, options.rounds, QUICK_VOCABULARY if options.quick else VOCABULARY)
    report.write()


def main(arguments: Sequence[str] | None = None, start: Start = Process) -> None:
    """Measures, prints and writes."""
    options = parse(__doc__, PEERS, arguments)
    measure(Report("serving", options), options, start)


if __name__ == "__main__":
    main()
