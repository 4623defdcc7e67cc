"""One self-contained HTML page about a search."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from nfm_tfrs.evidence import DEFAULT, Evidence
from nfm_tfrs.metrics.constant import no_better
from nfm_tfrs.report.figures import Figures, sentence
from nfm_tfrs.report.importance import importances
from nfm_tfrs.report.view import NAMES, Search, flat, number, shown, title
from nfm_tfrs.runs.files import write_text

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>Search for a ranking model</title>
<style>
body { margin: 0; background: #f5f6f8; color: #1d2530; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 28px; line-height: 1.2; margin: 8px 0 4px; }
h2 { font-size: 19px; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 20px 0 8px; }
p { margin: 8px 0; max-width: 80ch; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid #e2e5ea; border-radius: 8px; padding: 20px; margin-top: 16px; }
.note { color: #5a6575; font-size: 14px; }
.cards, .facts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); margin: 0; }
.cards { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); margin-top: 16px; }
.cards > div { background: #fff; border: 1px solid #e2e5ea; border-radius: 8px; padding: 12px 16px; }
dt { color: #5a6575; font-size: 13px; overflow-wrap: anywhere; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.cards dd { font-size: 22px; line-height: 1.3; }
@media (max-width: 600px) { .cards dd { font-size: 19px; } }
.cards small { color: #5a6575; font-size: 13px; font-weight: 400; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 6px 16px 6px 0; border-bottom: 1px solid #e2e5ea; }
th { color: #5a6575; font-weight: 600; white-space: nowrap; }
td { min-width: 56px; max-width: 420px; overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
td:last-child { min-width: 130px; }
.pair { display: grid; gap: 16px; }
@media (min-width: 900px) { .pair { grid-template-columns: 1fr 1fr; } }
.pair > div { min-width: 0; }
pre { background: #f5f6f8; border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 13px; }
summary { cursor: pointer; margin-top: 12px; color: #1f5fa8; }
</style>
<script>$plotly</script>
</head>
<body><main>
<h1>Search for a ranking model</h1>
$body
</main></body>
</html>
""")


def write_report(evidence: Evidence, path: str | Path) -> None:
    """Writes the page whole or, where anything goes wrong, not at all.

    Args:
        evidence: What a search tried and measured; `Evidence.from_json` reads it from a `search.json`.
        path: Path of the HTML file.

    Raises:
        ImportError: Optuna or Plotly is not installed.
    """
    figures = Figures()
    search = Search(evidence)
    sections = (_head, _best, _finalists, _groups, _hyperparameters, _curves, _failures, _circumstances)
    body = "\n".join(section(search, figures) for section in sections)
    write_text(Path(path), PAGE.substitute(plotly=figures.script(), body=body))


def _head(search: Search, figures: Figures) -> str:
    evidence = search.evidence
    verdict = evidence.verdict if search.chains else "No trial was finished."
    cards = []
    if evidence.finalists:
        first = evidence.finalists[0]
        spread = "one seed" if first.sd is None else f"sd {number(first.sd)} over {len(first.runs)} seeds"
        cards.append((f"{search.label}, mean", number(first.mean), spread))
    elif search.chains:
        cards.append((f"best {search.label}", number(search.score(search.winner)), "in the search, not trained again"))
    if (test := evidence.test) is not None:
        interval = f"95 % [{number(test.low)}, {number(test.high)}]"
        cards.append((f"test {search.name}", number(test.metrics[search.metric]), interval))
        for metric, value in test.constant.items():
            name, reached = NAMES.get(metric, metric.replace("_", " ")), number(test.metrics.get(metric))
            cards.append(
                (f"test {name} of a constant", number(value), f"the training rows' mean; the model: {reached}")
            )
    cards.append(("configurations", str(len(search.chains)), f"finished; trials in all: {len(evidence.trials)}"))
    cards.append(("time", _duration(evidence.seconds), f"on {evidence.data.train:,} rows"))
    items = (f"<div><dt>{escape(a)}</dt><dd>{escape(b)}<small>{escape(c)}</small></dd></div>" for a, b, c in cards)
    warning = None if test is None else no_better(test.metrics, test.constant)
    said = " ".join([verdict] + ([] if warning is None else [warning]))
    return f'<p>{escape(said)}</p><dl class="cards">{"".join(items)}</dl>'


def _best(search: Search, figures: Figures) -> str:
    candidate = search.candidate
    if candidate is None:
        return _section("Best configuration", sentence("There is none: no trial was finished."))
    written = {"model": candidate.model, "config": candidate.arguments, "training": candidate.training}
    source = escape(json.dumps(written, indent=1))
    return _section(
        "Best configuration",
        _facts((name, shown(value)) for name, value in flat(candidate).items()),
        f"<details><summary>As JSON</summary><pre>{source}</pre></details>",
    )


def _finalists(search: Search, figures: Figures) -> str:
    finalists = search.evidence.finalists
    if not finalists:
        return _section("Finalists", sentence("No configuration was trained again."))
    rows = []
    for finalist in finalists:
        gap = finalist.difference
        rows.append(
            [
                finalist.trial,
                title(finalist.candidate),
                number(finalist.mean),
                number(finalist.sd),
                ", ".join(number(run.metrics[search.metric]) for run in finalist.runs),
                ", ".join(f"{run.slice}" + (f" of {run.trained}" if run.trained else "") for run in finalist.runs),
                "-" if gap is None else f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]",
            ]
        )
    head = ["trial", "configuration", "mean", "sd", "each seed", "best slice", "difference to the first [95 %]"]
    configs = [flat(finalist.candidate) for finalist in finalists]
    names = dict.fromkeys(name for config in configs for name in config)
    differing = [
        [name, *(shown(config[name]) if name in config else "-" for config in configs)]
        for name in names
        if len({json.dumps(config.get(name)) for config in configs}) > 1
    ]
    parts = [_table(head, rows), f'<div class="pair">{figures.finalists(search)}{figures.differences(search)}</div>']
    seeds = any(finalist.difference is not None and finalist.difference.over_seeds for finalist in finalists)
    parts.append(
        sentence(
            f"Each was trained again with several seeds and judged by {search.label}: a ring is a seed, the bar the "
            "standard deviation. The interval of a difference is of a paired bootstrap over "
            f"{'rows and seeds' if seeds else 'the validation rows'}."
        )
    )
    if any(finalist.trial == DEFAULT for finalist in finalists):
        parts.append(sentence("What is trained as without a search, default, counts epochs for slices."))
    if diverged := search.evidence.diverged:
        parts.append(sentence(f"Diverged with every seed: trial {', '.join(diverged)}."))
    if differing:
        parts += ["<h3>What differs between them</h3>", _table(["", *(row[0] for row in rows)], differing)]
    return _section("Finalists", *parts)


def _groups(search: Search, figures: Figures) -> str:
    if not search.chains:
        return _section("Score by block and by structure", sentence("No trial was finished."))
    words = f"A point is a configuration's best {search.label}."
    if search.common < search.most:
        words += (
            " The darker, the more slices it was trained for: only points of about one shade compare like with like, "
            "as more slices mostly score better."
        )
    return _section(
        "Score by block and by structure",
        f'<div class="pair">{figures.groups(search, "block")}{figures.groups(search, "structure")}</div>',
        sentence(words),
    )


def _hyperparameters(search: Search, figures: Figures) -> str:
    found = importances(figures.optuna, search)
    return _section("Hyperparameters", figures.importance(search, found), figures.parallel(search, found))


def _curves(search: Search, figures: Figures) -> str:
    if not search.chains:
        return _section("Learning curves", sentence("No trial was finished."))
    return _section(
        "Learning curves",
        figures.curves(search),
        sentence(
            f"One line a configuration: {search.label} after each of {search.evidence.slices} slices "
            f"({search.evidence.passes:g} passes over the training rows). A dot is the end of a trial; where the line "
            "goes on, the configuration was promoted."
        ),
    )


def _failures(search: Search, figures: Figures) -> str:
    failed = [trial for trial in search.evidence.trials if trial.status in ("FAILED", "INVALID")]
    rows = [[one.id, title(one.candidate), one.status.lower(), one.message or "-"] for one in failed]
    table = _table(["trial", "configuration", "status", "message"], rows) if rows else sentence("None failed.")
    return _section("Failed trials", table)


def _circumstances(search: Search, figures: Figures) -> str:
    evidence, made = search.evidence, search.evidence.winner
    status = Counter(trial.status.lower() for trial in evidence.trials)
    facts = [
        ("objective", f"{evidence.objective.name} ({evidence.objective.direction})"),
        ("seed", str(evidence.seed)),
        ("a whole training", f"{evidence.passes:g} passes in {evidence.slices} slices"),
        ("trials", ", ".join(f"{count} {name}" for name, count in status.items()) or "none"),
        ("time", _duration(evidence.seconds)),
        ("the model", made.made),
        *((f"{name} rows", f"{count:,}") for name, count in evidence.data.rows.items()),
        *((name, str(version)) for name, version in evidence.versions.items()),
    ]
    return _section("How it was run", _facts(facts), sentence(f"Data fingerprint: {evidence.data.fingerprint}"))


def _section(heading: str, *parts: str) -> str:
    return f"<section><h2>{heading}</h2>{''.join(parts)}</section>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    items = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{"".join(items)}</dl>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.floor(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
