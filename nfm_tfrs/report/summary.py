"""What a search comes to, in the few lines that its command ends with."""

import re
from collections import defaultdict
from collections.abc import Iterator

from nfm_tfrs.configuration import Configuration
from nfm_tfrs.evidence import DEFAULT, Evidence

_WIDTH = 78  # of a line; a terminal has 80
_REASONS = 5  # why trials failed, the most frequent first
_NUMBER = re.compile(r"\d[\d.,]*")


def summary(best: Configuration, evidence: Evidence) -> list[str]:
    """Returns what won, how many configurations were tried, how many failed, and why.

    Args:
        best: How the model is made and trained, without its features.
        evidence: What the search tried and measured; one finalist or more.
    """
    return [*_won(best, evidence), *_tried(evidence)]


def _won(best: Configuration, evidence: Evidence) -> Iterator[str]:
    first, goal = evidence.finalists[0], evidence.objective.name
    spread = "" if first.sd is None else f" ± {first.sd:.4f}"
    mean = "" if first.mean is None else f"{first.mean:.4f}{spread}"
    seeds = "1 seed" if len(first.runs) == 1 else f"{len(first.runs)} seeds"
    whose = "as without a search" if first.trial == DEFAULT else f"of trial {first.trial}"
    yield f"Won: {best.model} {whose}, {goal} {mean} over {seeds}."
    made = {**best.arguments, **best.training}
    line = ""
    for name, value in made.items():
        word = f"{name}={_short(value)}"
        if line and len(line) + len(word) + 4 > _WIDTH:
            yield f"  {line}"
            line = ""
        line = f"{line}  {word}" if line else word
    if line:
        yield f"  {line}"


def _short(value: object) -> str:
    """A value as `--set` takes it; a block by its name alone."""
    blocks = value if isinstance(value, list | tuple) else [value]
    names = [f"{block.get('name', block)}" if isinstance(block, dict) else f"{block}" for block in blocks]
    text = ",".join(map(str, names))
    return f"[{text}]" if isinstance(value, list | tuple) else text


def _tried(evidence: Evidence) -> Iterator[str]:
    trials = evidence.trials
    tried = sum(trial.parent is None for trial in trials)
    failed = [trial for trial in trials if trial.status != "COMPLETED"]
    yield f"Tried {_count(tried, 'configuration')} in {_count(len(trials), 'trial')}; {len(failed) or 'none'} failed."
    reasons = defaultdict(list)
    for trial in failed:
        line = (trial.message or trial.status).splitlines()[0]
        reasons[_NUMBER.sub("", line)].append(line)  # 26 s are one reason with 27 s
    for lines in sorted(reasons.values(), key=len, reverse=True)[:_REASONS]:
        alike = "" if len(set(lines)) == 1 else ", such as"
        yield f"  {_count(len(lines), 'trial')}{alike}: {lines[0]}"
    if len(reasons) > _REASONS:
        yield f"  and {_count(len(reasons) - _REASONS, 'other reason')}, in search.json"
    if evidence.diverged:
        yield f"Diverged with every seed: trial {', '.join(evidence.diverged)}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
