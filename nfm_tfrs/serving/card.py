"""An export's card: what the model is for, what it takes, what it was made from and how good it is, in Markdown."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.data.history.rule import History
from nfm_tfrs.runs.record import RunRecord
from nfm_tfrs.versions import versions

if TYPE_CHECKING:
    from nfm_tfrs.serving.export import Export

CARD = "README.md"
_SHOWN = ("auc", "log_loss", "grouped_auc", "calibration_error", "rmse", "mae")


def card(model: Any, export: "Export", record: RunRecord | None, metrics: Mapping[str, Any]) -> str:
    """Returns the card, with front matter as Hugging Face's hub reads it.

    Args:
        model: The model.
        export: What was written.
        record: The record of the model's run; None without a run.
        metrics: What the run's metrics.json holds; nothing without a run.
    """
    name = record.recipe.model if record is not None and record.recipe is not None else type(model).__name__
    return "\n".join(
        [
            *_front_matter(name, export, metrics),
            f"# {name}",
            "",
            *_use(model, export, record),
            "",
            "## Inputs",
            "",
            *_inputs(export),
            "",
            *_histories(record),
            "## Metrics",
            "",
            *_metrics(export, metrics),
            "",
            "## Made from",
            "",
            *_made_from(record),
            "",
        ]
    )


def _front_matter(name: str, export: "Export", metrics: Mapping[str, Any]) -> Iterator[str]:
    yield "---"
    yield f"library_name: {'onnxruntime' if export.signature.form == 'onnx' else 'tensorflow'}"
    yield f"pipeline_tag: tabular-{'classification' if export.signature.binary else 'regression'}"
    yield "tags: [recommender-systems, click-through-rate, factorization-machines]"
    changed = export.signature.adjustment.changes or export.signature.table is not None
    test = {key: value for key, value in metrics.get("test", {}).items() if key in _SHOWN and value is not None}
    if test and not changed:  # else they are the model's, not those of what lies here
        yield "model-index:"
        yield f"  - name: {json.dumps(name)}"
        yield "    results:"
        yield "      - task: {type: ranking}"
        yield "        dataset: {name: test rows, type: tabular}"
        yield "        metrics:"
        yield from (f"          - {{type: {key}, value: {value:.6g}}}" for key, value in test.items())
    yield "---"
    yield ""


def _use(model: Any, export: "Export", record: RunRecord | None) -> Iterator[str]:
    target = "its label" if record is None else f"`{record.target.label}`"
    if export.signature.binary:
        yield f"The probability that {target} is 1, for ranking rows such as those that the model was trained on."
    else:
        yield f"A prediction of {target}, for rows such as those that the model was trained on."
    yield (
        "It is not for decisions about people that nobody looks at, nor for rows from elsewhere or of a later time "
        "without judging it on them first."
    )
    if export.signature.adjustment.changes:
        yield ""
        yield f"What is done to the model's logit: {export.signature.adjustment}."
    if export.signature.table is not None:
        yield ""
        yield f"The embedding table is rounded to {export.signature.table}."
    yield ""
    yield f"Signatures: {', '.join(f'`{one}`' for one in export.signature.names)}. {model.count_params():,} parameters."
    if export.signature.user:
        yield f"`rank` takes {', '.join(f'`{one}`' for one in export.signature.user)} once for all candidates."


def _inputs(export: "Export") -> Iterator[str]:
    yield "| input | type | shape | missing |"
    yield "| --- | --- | --- | --- |"
    for one in export.signature.inputs:
        written = one.to_json()
        shape, missing = ", ".join(one.shape), written.get("missing")
        more = f"; a bucket's number of {one.num_hash_buckets:,}" if one.num_hash_buckets else ""
        more += "; one for all rows will do" if one.optional else ""
        yield f"| `{one.name}` | {one.dtype} | [{shape}] | `{missing}`{more} |"


def _histories(record: RunRecord | None) -> Iterator[str]:
    """How a client makes what a row holds of what its user did before, each history in one sentence."""
    for text in () if record is None else record.histories:
        yield f"- {_in_words(History.parse(text))}"
    if record is not None and record.histories:
        yield ""


def _in_words(rule: History) -> str:
    lists, (count, *mean) = " and ".join(f"`{name}`" for name in rule.lists), rule.numbers
    held, apart = f"holds the last {rule.last} values of `{rule.of}`", ""
    if rule.apart:
        held = f"each hold the last {rule.last} values of `{rule.of}`"
        apart = f", those for which `{rule.rating}` holds in the first and the others in the second"
    rated = f"the share of them for which `{rule.rating}` holds" if rule.apart else f"the mean of their `{rule.rating}`"
    return (
        f"{lists} {held} in rows of the same `{rule.user}` whose `{rule.time}` is strictly earlier, newest first"
        f"{apart}; `{count}` counts all such rows"
        + (f", and `{mean[0]}` is {rated}, missing without any." if mean else ".")
    )


def _metrics(export: "Export", metrics: Mapping[str, Any]) -> Iterator[str]:
    said = False
    for part in ("valid", "test"):
        report, intervals = metrics.get(part) or {}, (metrics.get("intervals") or {}).get(part) or {}
        for key in _SHOWN:
            if report.get(key) is None:
                continue
            low, high = intervals.get(key) or (None, None)
            known = "" if low is None or high is None else f", 95 % interval [{low:.4f}, {high:.4f}]"
            yield f"- {part} rows, {key} of the model: {report[key]:.4f}{known}"
            said = True
    for which, report in export.quality.items():
        shown = ", ".join(f"{key} {value:.5f}" for key, value in report.items() if key in _SHOWN)
        fitted_here = which == "export" and export.signature.adjustment.is_fitted
        yield f"- validation rows, the {which}: {shown}" + (", fitted on these rows" if fitted_here else "")
        said = True
    yield f"- against the model: {export.parity}"
    if not said:
        yield "- none measured: the model was exported without its run"


def _made_from(record: RunRecord | None) -> Iterator[str]:
    if record is not None:
        said = {
            "label": str(record.target.label),
            "split": record.split or ("files of their own" if record.source and record.source.valid else "random"),
            "seed": record.seed,
            "members": record.members if record.members > 1 else None,
            "fingerprint of the rows": record.source and record.source.fingerprint,
            "date": record.date,
        }
        yield from (f"- {name}: {text}" for name, text in said.items() if text is not None)
        if isinstance(record.recipe, Configuration):
            yield f"- model: `{json.dumps(record.recipe.arguments)}`"
            yield f"- training: `{json.dumps(record.recipe.training)}`"
    known = dict(record.versions) if record is not None and record.versions else versions()
    yield from (f"- {package} {version}" for package, version in known.items())
