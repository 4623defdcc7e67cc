"""The model card: what the model is, how it was chosen, and every figure, in Markdown."""

import json
from collections.abc import Iterator

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import Evidence
from nfm_tfrs.metrics.constant import no_better


def card(best: Configuration, evidence: Evidence) -> str:
    """Returns the card of the model that a search ends with.

    Args:
        best: How the model is made and trained, without its features.
        evidence: What the search tried and measured; one finalist or more.
    """
    goal, states = evidence.objective, [trial.status for trial in evidence.trials]
    written = {"model": best.model, "training": best.training, "config": best.arguments}
    lines = [
        f"# {best.model}",
        "",
        f"Chosen by `{goal.name}` ({goal.direction}) of {states.count('COMPLETED')} finished trials "
        f"({len(states) - states.count('COMPLETED')} failed) in {evidence.seconds / 60:.1f} minutes.",
        evidence.verdict,
        "",
        "```json",
        json.dumps(written, indent=2),
        "```",
        "",
        "## Finalists, on validation",
        "",
        *_finalists(evidence),
        "",
        "## Test rows, judged once",
        "",
        *_test(evidence),
        "",
        "## Made from",
        "",
        *_made_from(evidence),
    ]
    return "\n".join(lines) + "\n"


def _finalists(evidence: Evidence) -> Iterator[str]:
    yield "| trial | mean | spread | seeds | less the first's |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for finalist in evidence.finalists:
        gap = finalist.difference
        less = "" if gap is None else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        mean, spread = ("" if value is None else f"{value:.4f}" for value in (finalist.mean, finalist.sd))
        yield f"| {finalist.trial} | {mean} | {spread} | {len(finalist.runs)} | {less} |"
    if evidence.diverged:
        yield ""
        yield f"Diverged with every seed: trial {', '.join(evidence.diverged)}."


def _test(evidence: Evidence) -> Iterator[str]:
    test = evidence.test
    if test is None:
        yield "None were given."
        return
    yield from (f"- {name}: {value:.4f}" for name, value in test.metrics.items())
    yield f"- 95 % interval of {evidence.objective.metric} over rows: [{test.low:.4f}, {test.high:.4f}]"
    yield from (
        f"- {name} of the training rows' mean for every row: {value:.4f}" for name, value in test.constant.items()
    )
    if (warning := no_better(test.metrics, test.constant)) is not None:
        yield ""
        yield warning


def _made_from(evidence: Evidence) -> Iterator[str]:
    data, winner = evidence.data, evidence.winner
    said = {"label": data.label, "split": data.split, "fingerprint": data.fingerprint}
    yield from (f"- {name}: {text}" for name, text in said.items() if text is not None)
    yield from (f"- {name} rows: {count:,}" for name, count in data.rows.items())
    yield f"- {evidence.passes:g} passes in {evidence.slices} slices, seed {evidence.seed}"
    yield f"- the model: {winner.made}"
    yield f"- seeds of the runs: {', '.join(str(run.seed) for run in evidence.finalists[0].runs)}"
    yield from (f"- {package} {version}" for package, version in evidence.versions.items())
