"""The figures of a search's page, drawn by Plotly."""

from collections.abc import Sequence
from html import escape
from importlib import import_module
from statistics import median
from typing import Any

from nfm_tfrs.report.importance import FEWEST, SLICES, Importances, imported, quiet
from nfm_tfrs.report.view import Search, block, structure, text, title, values_of, varied

AXES = 8  # of the parallel coordinates, besides the score and the slices
BEST, FINALIST, OTHER, LIGHT = "#c2410c", "#1f5fa8", "#aab2be", "#8db4e2"
SHADES = [[0, "#9ecae1"], [1, "#08306b"]]


class Figures:
    """Makes figures as HTML, a sentence where there is too little to draw.

    Raises:
        ImportError: Optuna or Plotly is not installed.
    """

    def __init__(self) -> None:
        try:
            self.optuna = import_module("optuna")
            self.io = import_module("plotly.io")
            self.offline = import_module("plotly.offline")
        except ImportError as error:
            missing = (error.name or "optuna or plotly").partition(".")[0]
            raise ImportError(f'The page needs {missing}. Install it with pip install "nfm-tfrs[report]".') from error

    def script(self) -> str:
        """Returns the source of plotly.js."""
        source: str = self.offline.get_plotlyjs()
        return source

    # --- finalists

    def finalists(self, search: Search) -> str:
        """Draws each finalist's seeds, mean and standard deviation."""
        finalists = search.evidence.finalists[::-1]  # the first axis label is the lowest
        names = [text(f"{finalist.trial} {block(finalist.candidate)}") for finalist in finalists]
        seeds = [
            (run.metrics[search.metric], name)
            for finalist, name in zip(finalists, names, strict=True)
            for run in finalist.runs
        ]
        data = [
            {
                "x": [finalist.mean for finalist in finalists],
                "y": names,
                "mode": "markers",
                "marker": {"color": FINALIST, "size": 9, "symbol": "line-ns-open", "line": {"width": 3}},
                "error_x": {"array": [finalist.sd or 0 for finalist in finalists], "color": FINALIST},
                "hovertemplate": "mean %{x:.4f}<extra></extra>",
            },
            {
                "x": [value for value, _ in seeds],
                "y": [name for _, name in seeds],
                "mode": "markers",
                "marker": {"color": "#1d2530", "size": 8, "symbol": "circle-open"},
                "hovertemplate": "%{x:.4f}<extra></extra>",
            },
        ]
        return self._rows("finalists", data, names, search.label)

    def differences(self, search: Search) -> str:
        """Draws the interval of each finalist's difference to the first."""
        differences = {
            text(f"{finalist.trial} {block(finalist.candidate)}"): finalist.difference
            for finalist in search.evidence.finalists[::-1]
            if finalist.difference is not None
        }
        if not differences:
            return sentence("With one finalist there is no difference to show.")
        names, found = list(differences), list(differences.values())
        data = {
            "x": [difference.mean for difference in found],
            "y": names,
            "mode": "markers",
            "marker": {"color": FINALIST, "size": 9},
            "error_x": {
                "array": [difference.high - difference.mean for difference in found],
                "arrayminus": [difference.mean - difference.low for difference in found],
                "color": FINALIST,
            },
            "hovertemplate": "%{x:+.4f}<extra></extra>",
        }
        line = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper", "line": {"color": BEST}}
        return self._rows("differences", [data], names, "difference to the first", {"shapes": [line]})

    # --- configurations

    def groups(self, search: Search, kind: str) -> str:
        """Draws the scores of the configurations of each `"block"` or `"structure"`, the best group on top."""
        members: dict[str, list[tuple[float, int, str]]] = {}
        for chain in search.chains:
            last = chain[-1]
            group = block(last.candidate) if kind == "block" else structure(last.candidate)
            if group is not None:
                point = (search.score(chain), len(last.scores), last.id)
                members.setdefault(text(group), []).append(point)
        if not members:
            return sentence(f"No configuration has a {kind} to choose.")
        best = {group: search.best(point[0] for point in points) for group, points in members.items()}
        names = sorted(members, key=lambda group: best[group], reverse=not search.highest)
        points = [(group, *point) for group, those in members.items() for point in those]
        xs, slices = [point[1] for point in points], [point[2] for point in points]
        data: list[dict[str, Any]] = [
            {
                "x": xs,
                "y": [point[0] for point in points],
                "mode": "markers",
                "marker": {"color": slices, "colorscale": SHADES, "size": 9, "line": {"color": "#fff", "width": 1}},
                "customdata": [[text(point[3]), point[2]] for point in points],
                "hovertemplate": "trial %{customdata[0]}: %{x:.4f} after %{customdata[1]} slices<extra></extra>",
            },
        ]
        if search.common < search.most:
            heading = {"text": "slices", "font": {"size": 13}}
            bar = {"title": heading, "thickness": 10, "tickvals": [search.common, search.most]}
            data[0]["marker"] |= {"showscale": True, "colorbar": bar}
        visible = _range(xs, search.highest)
        return self._rows(kind, data, names, search.label, {"xaxis": {"range": visible}}) + _cut(visible)

    def curves(self, search: Search) -> str:
        """Draws the score after each slice, one line a configuration, the best one over all others."""
        finalists = {finalist.trial for finalist in search.evidence.finalists}
        winner, drawn = search.winner, []
        for chain in search.chains:
            named = bool(finalists & {trial.id for trial in chain})
            drawn.append((2 if chain is winner else 1 if named else 0, chain))
        kinds = [("others", OTHER, 1), ("finalists", FINALIST, 2), ("best", BEST, 3)]
        data: list[dict[str, Any]] = []
        known: set[str] = set()
        for kind, chain in sorted(drawn, key=lambda pair: pair[0]):
            label, color, width = kinds[kind]
            values = [scores[search.metric] for scores in chain[-1].scores]
            ends = {len(trial.scores) for trial in chain}
            name = text(f"{chain[-1].id} {title(chain[-1].candidate)}")
            data.append(
                {
                    "x": list(range(1, len(values) + 1)),
                    "y": values,
                    "mode": "lines+markers",
                    "line": {"color": color, "width": width},
                    "marker": {"size": [5 + kind if x in ends else 0 for x in range(1, len(values) + 1)], "opacity": 1},
                    "name": label,
                    "legendgroup": label,
                    "showlegend": label not in known,
                    "hovertemplate": f"{name}<br>slice %{{x}}: %{{y:.4f}}<extra></extra>",
                }
            )
            known.add(label)
        visible = _range([one[search.metric] for chain in search.chains for one in chain[-1].scores], search.highest)
        ticks = {"dtick": 1} if search.most <= 12 else {}
        layout = {
            "xaxis": {"title": {"text": "slices"}, "rangemode": "tozero"} | ticks,
            "yaxis": {"title": {"text": search.label}, "range": visible, "automargin": True},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "reversed"},
            "height": 420,
        }
        return self._html("curves", data, layout) + _cut(visible)

    # --- hyperparameters

    def importance(self, search: Search, found: Importances) -> str:
        """Draws how much each hyperparameter matters."""
        if not found.always and not found.conditional:
            return sentence(f"The importance of hyperparameters needs {FEWEST} finished configurations that differ.")
        groups = [("all configurations have it", FINALIST, found.always), ("conditional", LIGHT, found.conditional)]
        data = [
            {
                "type": "bar",
                "orientation": "h",
                "x": list(shares.values()),
                "y": [text(name) for name in shares],
                "name": label,
                "marker": {"color": color},
                "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
            }
            for label, color, shares in groups
        ]
        pair = (found.conditional, found.always)
        names = [text(name) for shares in pair for name in sorted(shares, key=shares.__getitem__)]
        words = (
            f"The share of the variation of {search.label} that goes with each hyperparameter alone (fANOVA), all "
            f"configurations compared after {search.common} of {search.evidence.slices} slices, which each of them "
            "has. A conditional hyperparameter's is its share among the configurations that have it."
        )
        if found.few:
            words += f" Left out, with fewer than {FEWEST} configurations that differ: {', '.join(found.few)}."
        layout = {"legend": {"orientation": "h", "y": 1, "yanchor": "bottom"}, "showlegend": True}
        return self._rows("importance", data, names, "share of the variation", layout, row=22) + sentence(words)

    def parallel(self, search: Search, found: Importances) -> str:
        """Draws each configuration as a line over the hyperparameters that matter most."""
        chains, known = search.chains, varied(search.chains)
        if len(chains) < 2 or not known:
            return sentence("Parallel coordinates need two finished configurations that differ.")
        shares = found.conditional | found.always
        having = {name: len(values_of(chains, name)) for name in known}
        order = sorted(known, key=lambda name: (-shares.get(name, 0) * having[name], -having[name], name))[:AXES]
        names = [text(name) for name in order]
        if search.common < search.most:
            names.append(SLICES)
        with quiet(self.optuna):
            study = imported(self.optuna, search, chains)
            draw = self.optuna.visualization.plot_parallel_coordinate
            drawn = draw(study, params=names, target_name=search.label).to_dict()
        layout = drawn["layout"]
        labels = [search.label, *sorted(names)]  # whole: Optuna cuts them
        wrapped = [label.replace("/", "/<br>").replace("_", "_<br>").replace(" ", "<br>") for label in labels]
        layout["xaxis"] |= {"ticktext": wrapped, "tickangle": 0, "tickfont": {"size": 12}, "fixedrange": True}
        for mark in layout["annotations"]:
            mark.update(bgcolor="rgba(255,255,255,0.85)")
        layout |= {"title": None, "height": 480, "margin": {"l": 56, "r": 16, "t": 24, "b": 72}}
        words = "One line a configuration; None where it does not have the hyperparameter."
        if len(known) > AXES:
            chosen = "that matter most" if shares else "that most configurations have"
            words += f" Of {len(known)} hyperparameters the {AXES} {chosen} are shown."
        return self._html("parallel", drawn["data"], layout, wide=True) + sentence(words)

    # --- drawing

    def _rows(
        self,
        name: str,
        data: list[dict[str, Any]],
        names: Sequence[str],
        label: str,
        layout: dict[str, Any] | None = None,
        row: int = 32,
    ) -> str:
        """A figure with one row a name, the last one on top."""
        layout = {"showlegend": False, "height": 110 + row * len(names), **(layout or {})}
        across = {"title": {"text": label}, "nticks": 6, **layout.get("xaxis", {})}
        # Names such as "1" are no numbers.
        down = {"type": "category", "categoryorder": "array", "categoryarray": list(names), "automargin": True}
        down |= {"range": [-0.6, len(names) - 0.4]}
        return self._html(name, data, layout | {"xaxis": across, "yaxis": down})

    def _html(self, name: str, data: Any, layout: dict[str, Any], *, wide: bool = False) -> str:
        base: dict[str, Any] = {
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1d2530"},
            "margin": {"l": 8, "r": 16, "t": 32, "b": 48},
            "hoverlabel": {"align": "left"},
        }
        height = layout.get("height")
        layout = base | layout | {"template": "plotly_white"}
        for heading in (axis.get("title") for name, axis in layout.items() if name in ("xaxis", "yaxis")):
            if heading is not None:
                heading.update(font={"size": 13})
        drawn = self.io.to_html(
            {"data": data, "layout": layout},
            config={"displayModeBar": False, "doubleClick": "autosize", "responsive": True},
            include_plotlyjs=False,
            full_html=False,
            default_height=f"{height}px",
            div_id=f"figure-{name}",
        )
        width = ' style="min-width: 960px"' if wide else ""
        return f'<div class="scroll"><div{width}>{drawn}</div></div>'


def sentence(words: str) -> str:
    """Returns a paragraph beside a figure, or in its place."""
    return f'<p class="note">{escape(words)}</p>'


def _cut(visible: list[float] | None) -> str:
    return sentence("The axis leaves out much worse scores; a double click shows all.") if visible else ""


def _range(values: Sequence[float], highest: bool) -> list[float] | None:
    """An axis without the few values so bad that they would squeeze all others together; None for all."""
    best, worst = (max(values), min(values)) if highest else (min(values), max(values))
    reach = 6 * (median(values) - best)
    if abs(worst - best) <= abs(reach) or not reach:
        return None
    return sorted([best + reach, best - 0.05 * reach])
