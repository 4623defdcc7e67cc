"""What a search comes to, in sentences: how sure one may be of its winner, and what else there is to know."""

from collections import Counter
from collections.abc import Sequence

from nfm_tfrs.evidence import DEFAULT, Finalist, Objective, TrialRecord, Winner
from nfm_tfrs.training.schedules import OVER_STEPS


def verdict(finalists: Sequence[Finalist], goal: Objective, lost: int = 0) -> str:
    """Returns, in a sentence, how sure one may be of the first finalist.

    Args:
        finalists: The finalists, the best first.
        goal: The objective they were compared by.
        lost: How many diverged with all their seeds.
    """
    if len(finalists) == 1:
        return f"One finalist is left: {lost} diverged with all their seeds." if lost else "There was one finalist."
    second, gap = finalists[1], finalists[1].difference
    assert gap is not None
    where = "over these validation rows and seeds" if gap.over_seeds else "on these validation rows"
    if gap.low * goal.sign > 0 and gap.high * goal.sign > 0:  # it comes second for that alone
        return (
            f"The first finalist is the steadier one: the second, whose {goal.metric} differs by "
            f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] {where}, diverged "
            f"with {len(second.diverged)} of its seeds."
        )
    if gap.low <= 0 <= gap.high:
        return (
            f"There is no clear winner: {where} the second finalist's {goal.metric} differs from the first's by "
            f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]."
        )
    return (
        f"The first finalist is better than the second: {where} its {goal.metric} differs by "
        f"{-gap.mean:+.4f} [{-gap.high:+.4f}, {-gap.low:+.4f}]."
    )


def remarks(finalists: Sequence[Finalist], trials: Sequence[TrialRecord], winner: Winner, ending: str) -> list[str]:
    """Returns what else there is to know of a search, a sentence each.

    Args:
        finalists: The finalists, the best first.
        trials: Every trial.
        winner: How the model was made.
        ending: Why no trial came after the last.
    """
    said = []
    if finalists[0].trial == DEFAULT:
        judged = Counter(len(trial.scores) for trial in trials if trial.status == "COMPLETED")
        ends = sorted(judged.items())
        counts = ", ".join(f"{count} after {end} slice{'' if end == 1 else 's'}" for end, count in ends)
        were = "was" if judged.total() == 1 else "were"
        names = {name for trial in trials for name in trial.values}
        said.append(
            f"Nothing better than the model without a search was found: {counts} {were} judged, over {len(names)} "
            f"hyperparameters, until {ending}."
        )
    if winner.members:
        said.append(f"The model is {winner.made}: better on these validation rows than the best of them alone.")
    endless = [finalist for finalist in finalists if finalist.candidate.schedule not in OVER_STEPS]  # others end low
    rising = [finalist.trial for finalist in endless if any(run.improving for run in finalist.runs)]
    if rising:
        said.append(f"Best at the last slice of a run, so that more passes may be better: {', '.join(rising)}.")
    return said
