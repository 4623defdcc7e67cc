"""The table of the speed benchmarks: what must be reached, and what was measured."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from lib.reports import BEFORE, TORCH_PEERS
from lib.timing import machine_words

RESULTS_OF_SPEED = ("train_step", "fit", "vocabulary", "sequences", "input", "latency", "cold_start", "serving")
NOT_MEASURED = "not measured"
TIMES = "\N{MULTIPLICATION SIGN}"

Results = Mapping[str, Any]


class Figure(NamedTuple):
    """A measured ratio: its median, its 95 % interval, and what it was measured against."""

    median: float
    low: float
    high: float
    against: str = ""

    @property
    def is_sure(self) -> bool:
        """Whether the interval is within ± 10 % of the median."""
        return self.low >= 0.9 * self.median and self.high <= 1.1 * self.median

    def inverse(self) -> "Figure":
        """The ratio the other way round."""
        return Figure(1 / self.median, 1 / self.high, 1 / self.low, self.against)


class Bound(NamedTuple):
    """What must be reached: at least this value, or at most; a share is written in per cent."""

    value: float
    most: bool = False
    unit: str = TIMES

    def __str__(self) -> str:
        value = self.value * 100 if self.unit == "%" else self.value
        return "≤ " * self.most + f"{value:g}" + " " * (self.unit == "%") + self.unit

    def holds(self, figure: Figure) -> bool:
        """Whether the interval does not exclude the bound."""
        return figure.low <= self.value if self.most else figure.high >= self.value

    def verdict(self, figure: Figure) -> str:
        """Nothing where the median keeps the bound and is sure; "unsure" where the interval is wider than ± 10 %,
        "missed" where it excludes the bound, else "level"."""
        if figure.median <= self.value if self.most else figure.median >= self.value:
            return "" if figure.is_sure else " unsure"
        return " level" if self.holds(figure) else " missed"

    def measured(self, figure: Figure) -> str:
        """The figure, its interval, what it was measured against, and the verdict."""
        numbers = (figure.median, figure.low, figure.high)
        if self.unit == "%":
            median, low, high = (f"{number * 100:.0f}" for number in numbers)
            median += " %"
        else:
            median, low, high = (f"{number:.2f}" for number in numbers)
            median += self.unit
        against = f" ({figure.against})" if figure.against else ""
        return f"{median} [{low}, {high}]{against}{self.verdict(figure)}"


class Row(NamedTuple):
    """One line of the table: what, its bound, and how to find the figure; where it is missing a LookupError."""

    what: str
    bound: Bound
    find: Callable[[Results], Figure]


def against(comparison: Results, ours: str, theirs: str) -> Figure:
    """How many times as fast our side is as theirs."""
    for ratio in comparison["ratios"]:
        if (ratio["ours"], ratio["theirs"]) == (ours, theirs):
            return figure(ratio)
    raise LookupError(f"{ours} was not compared with {theirs}")


def against_best(comparison: Results, ours: str, peers: Iterable[str] | None = None) -> Figure:
    """How many times as fast our side is as the nearest peer, of all or of these, with the same optimizer."""
    optimizer = ours.split()[1]
    found = [
        figure(ratio, ratio["theirs"].replace(f" {optimizer}", ""))
        for ratio in comparison["ratios"]
        if ratio["ours"] == ours and ratio["theirs"].split()[1] == optimizer
        if ratio["theirs"].split()[0] != BEFORE
        if peers is None or ratio["theirs"].split()[0] in peers
    ]
    if not found:
        raise LookupError(f"{ours} was compared with none of {peers}")
    return min(found)


def figure(measured: Results, against: str = "") -> Figure:
    """A median and its interval as they stand in the results."""
    low, high = measured["interval"]
    return Figure(measured["median"], low, high, against)


def _step(workload: str, ours: str, theirs: str) -> Callable[[Results], Figure]:
    return lambda results: against(results["train_step"]["workloads"][workload], ours, theirs)


def _fit(theirs: str) -> Callable[[Results], Figure]:
    return lambda results: against(results["fit"]["workloads"]["W1"], "own adam", theirs)


def _best(script: str, ours: str, peers: Iterable[str] | None = None, workload: str = "W1") -> Callable[..., Figure]:
    return lambda results: against_best(results[script]["workloads"][workload], ours, peers)


def _largest(optimizer: str) -> Callable[[Results], Figure]:
    """Finds the figure of W3 at the most rows, against the peer that comes nearest to us."""

    def find(results: Results) -> Figure:
        sizes = results["vocabulary"]["peers"]
        compared = sizes[max(sizes, key=int)][optimizer]
        ratios = [ratio for comparison in compared.values() for ratio in comparison["ratios"]]
        return against_best({"ratios": ratios}, f"own {optimizer}")

    return find


def _padding(side: str) -> Callable[[Results], Figure]:
    return lambda results: figure(results["sequences"]["pooling"]["ratios"][side])


def _latency(workload: str, rows: int) -> Callable[[Results], Figure]:
    return lambda results: against_best(results["latency"]["workloads"][workload][str(rows)], "own adam").inverse()


def _before(workload: str, way: str) -> Callable[[Results], Figure]:
    ours, theirs = (f"{side} adam way={way}" for side in ("own", BEFORE))
    return lambda results: against(results["latency"]["workloads"][workload]["1"], ours, theirs).inverse()


def _scored(way: str) -> Callable[[Results], Figure]:
    ours, theirs = f"own adam way={way}", f"{BEFORE} adam way=predict_on_batch"
    return lambda results: against(results["serving"]["rows"]["1"], ours, theirs).inverse()


def _export(rows: int) -> Callable[[Results], Figure]:
    return lambda results: against_best(results["serving"]["rows"][str(rows)], "own adam way=savedmodel").inverse()


def _rank(how: str) -> Callable[[Results], Figure]:
    return lambda results: figure(results["serving"]["rank"][how]).inverse()


ROWS = (
    Row("W1 step, row-wise Adam, against DeepCTR's NFM", Bound(4.4), _step("W1", "own adam", "deepctr adam")),
    Row("W1 step, Adagrad, against DeepCTR", Bound(3.7), _step("W1", "own adagrad", "deepctr adagrad")),
    Row("W1 step, Adagrad, against the TFRS tutorial", Bound(1.9), _step("W1", "own adagrad", "tutorial adagrad")),
    Row(
        "W1 step, row-wise Adam, against the fastest torch peer's Adam",
        Bound(4.5),
        _best("train_step", "own adam", TORCH_PEERS),
    ),
    Row(
        "W1 step, the paper's form, against version 0.1.0's",
        Bound(1.15),
        _step("W1", "own adam definition=paper", f"{BEFORE} adam definition=paper"),
    ),
    Row("W1 fit from memory, row-wise Adam, against DeepCTR", Bound(3.5), _fit("deepctr adam")),
    Row("W1 fit from memory, row-wise Adam, against the TFRS tutorial", Bound(10), _fit("tutorial adam")),
    Row("the same, its batches cached in the first epoch", Bound(1), _fit("tutorial adam cache=True")),
    Row(
        "W3 step, row-wise Adam, 10 M rows over 10 k",
        Bound(1.6, most=True),
        lambda results: figure(results["vocabulary"]["own"]["adam"]["growth"]),
    ),
    Row("W3 step, 10 M rows, row-wise Adam, against the best peer's Adam", Bound(20), _largest("adam")),
    Row("W3 step, 10 M rows, Adagrad, against the best peer", Bound(2), _largest("adagrad")),
    Row(
        "W2 step, row-wise Adam, against the best peer's Adam",
        Bound(1.6),
        _best("train_step", "own adam", workload="W2"),
    ),
    Row(
        "W2 fit from memory, row-wise Adam, against the best peer", Bound(1.5), _best("fit", "own adam", workload="W2")
    ),
    Row("W5 against padding and Keras' Adagrad", Bound(4), _padding("padded")),
    Row("W5 against padding and our Adagrad", Bound(2.8), _padding("padded, row-wise")),
    Row(
        "end to end from Parquet over the bare step",
        Bound(0.8),
        lambda results: figure(results["input"]["end_to_end"]),
    ),
    Row(
        "share of the floor, W1",
        Bound(0.35, unit="%"),
        lambda results: figure(results["train_step"]["workloads"]["W1"]["floor"]["share"]),
    ),
    *(
        Row(
            f"latency p50, {rows} row{'s' * (rows > 1)}, {workload}, over the best TensorFlow peer's",
            Bound(bound, most=True),
            _latency(workload, rows),
        )
        for workload in ("W1", "W2")
        for rows, bound in ((1, 0.5), (100, 0.55), (1000, 0.6))
    ),
    *(
        Row(f"{way}, one row, {workload}, over version 0.1.0's", Bound(0.15, most=True), _before(workload, way))
        for workload in ("W1", "W2")
        for way in ("model(x)", "predict_on_batch")
    ),
    Row("a raw row through a SavedModel, W1, over version 0.1.0's", Bound(0.1, most=True), _scored("savedmodel")),
    Row("a raw row through ONNX, W1, over version 0.1.0's", Bound(0.02, most=True), _scored("onnx")),
    *(
        Row(
            f"{rows} raw rows through a SavedModel, W1, over the best TensorFlow peer's",
            Bound(bound, most=True),
            _export(rows),
        )
        for rows, bound in ((100, 0.55), (1000, 0.6))
    ),
    *(
        Row(f"200 candidates {how}, rank over flat", Bound(bound, most=True), _rank(how))
        for how, bound in (("with a history of 100", 0.8), ("without a history", 1.1))
    ),
    Row(
        "first step of a fresh process, W1, over the TFRS tutorial's",
        Bound(0.7, most=True),
        lambda results: against(results["cold_start"], "own adam", "tutorial adam").inverse(),
    ),
    Row("W1 step, dense Adam, against DeepCTR", Bound(1.0), _step("W1", "own dense_adam", "deepctr adam")),
    Row(
        "memory at 10 M rows over DeepCTR's without L2",
        Bound(0.7, most=True),
        lambda results: figure(results["vocabulary"]["memory"]["ratio"]),
    ),
)


def speed_table(results: Results) -> str:
    """What must be reached, row by row, and the measured figure with its interval.

    Args:
        results: What the scripts wrote, by the name of the script; a missing one leaves its rows unmeasured.
    """
    lines = [["what", "at least", "measured"], ["---", "---:", "---"]]
    for row in ROWS:
        try:
            measured = row.bound.measured(row.find(results))
        except (LookupError, TypeError):  # TypeError: an entry that is null
            measured = NOT_MEASURED
        lines.append([row.what, str(row.bound), measured])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _machines(results: Results) -> str:
    """The machine, or each with the benchmarks that it ran."""
    ran: dict[str, list[str]] = {}
    for name, measured in results.items():
        if "machine" in measured:
            ran.setdefault(machine_words(measured["machine"]), []).append(name)
    if len(ran) == 1:
        return next(iter(ran))
    return "; ".join(f"{words} ({', '.join(names)})" for words, names in ran.items())


def speed_caption(results: Results) -> str:
    """What the numbers depend on, and what they are."""
    if not results:
        return ""
    some = next(iter(results.values()))
    peers: dict[str, str] = {}
    for measured in results.values():
        for versions in measured.get("versions", {}).values():
            peers |= versions if isinstance(versions, dict) else {}
    named = ", ".join(f"{package} {version}" for package, version in peers.items())
    return (
        f"{_machines(results)}; {named}; medians of {some['rounds']} interleaved "
        f"rounds, seed {some['seed']}. {TIMES}: times as fast; where a bound is a most (≤), ours over theirs. The 95 % "
        "interval in brackets; behind it the peer that came nearest, where there were several. missed: the interval "
        "excludes the bound; level: only the median does; unsure: the median keeps it, and the interval is wider than "
        "± 10 %.\n\n"
    )
