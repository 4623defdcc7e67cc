"""Gather what won on each set that was searched: the configurations that a search tries first on others.

usage: python benchmarks prior [--folder benchmarks/.searches] [--quick]

Reads the search.json of every search that `search` and `search_clicks` left, of one set all of them together. A
finalist is worth what the mean of its trainings is above that of the model without a search, of the same search; the
best few that are worth something are written into the package's prior.json, with the sets that no search was made of
as they are there. Nothing is trained. With --quick nothing is written.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lib.places import SEARCHES

import nfm_tfrs.tuning
from nfm_tfrs.evidence import DEFAULT, Evidence
from nfm_tfrs.tuning.prior import FILE
from nfm_tfrs.written import FORMAT
from quality.search_clicks import FIXED

SHIPPED = Path(nfm_tfrs.tuning.__file__).parent / FILE
MOST = 5  # of a set


def set_of(folder: Path) -> str | None:
    """The set of a search by its folder, `[SET ]… minutes/NAME-SEED`; None of a quick one."""
    of = folder.parent.name
    if not of.endswith(" minutes"):
        return None
    if of.startswith("clicks "):
        return f"clicks-{folder.name.partition('-')[0]}"
    return "lastfm-tags" if of.startswith("lastfm-tags ") else "movielens-small"


def worth(evidence: Evidence) -> Iterable[tuple[float, dict[str, Any]]]:
    """By how much each finalist is better than the model without a search, and the values of its hyperparameters."""
    means = {finalist.trial: finalist.mean for finalist in evidence.finalists}
    trials = {trial.id: trial for trial in evidence.trials}
    default = means.get(DEFAULT)
    for name, mean in means.items():
        if name in trials and mean is not None and default is not None:
            yield evidence.objective.sign * (mean - default), dict(trials[name].values)


def gathered(folder: Path) -> dict[str, dict[str, Any]]:
    """The sets that searches in a folder were made of, as a prior.json holds them."""
    found: dict[str, dict[str, tuple[float, dict[str, Any]]]] = {}
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*/*/search.json")):
        if (name := set_of(path.parent)) is None:
            continue
        counts[name] = counts.get(name, 0) + 1
        best = found.setdefault(name, {})
        fixed = FIXED if name.startswith("clicks-") else {}  # by `search_clicks`, and to be tried with it elsewhere
        for gain, drawn in worth(Evidence.from_json(json.loads(path.read_text()))):
            values = fixed | drawn
            key = json.dumps(values, sort_keys=True)
            if gain > 0 and gain > best.get(key, (0.0, {}))[0]:
                best[key] = (gain, values)
    return {
        name: {
            "from": f"{counts[name]} searches, means of the finalists above the model without a search",
            "winners": [
                {"values": values, "gain": round(gain, 6)}
                for gain, values in sorted(best.values(), key=lambda pair: -pair[0])[:MOST]
            ],
        }
        for name, best in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=SEARCHES)
    parser.add_argument("--quick", action="store_true", help="writes nothing")
    options = parser.parse_args(arguments)
    sets = json.loads(SHIPPED.read_text())["sets"] | gathered(options.folder)
    print(json.dumps({name: [one["gain"] for one in of["winners"]] for name, of in sets.items()}, indent=1))
    if not options.quick:
        SHIPPED.write_text(json.dumps({"format": FORMAT, "sets": sets}, indent=1) + "\n")


if __name__ == "__main__":
    main()
