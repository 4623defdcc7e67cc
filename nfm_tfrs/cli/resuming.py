"""`train --resume`: checkpoints beside the output while it trains, and going on from the last of them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nfm_tfrs import arguments
from nfm_tfrs.cli.terminal import print_lines
from nfm_tfrs.features.statistics import today
from nfm_tfrs.runs.checkpoint import Checkpoints, Starts, differing, last_checkpoint, start_anew
from nfm_tfrs.runs.claim import being_written
from nfm_tfrs.runs.files import remove
from nfm_tfrs.runs.finished import Finished
from nfm_tfrs.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class ResumeOptions:
    """Going on after a kill or an interruption.

    Args:
        resume: Write checkpoints beside --out, and go on from the last one: after a kill run the same command again.
        checkpoint_minutes: Minutes between two checkpoints; if not given, as many as keep writing below 2 %.
        checkpoint_steps: Training steps between two checkpoints, instead of minutes.
        keep_checkpoints: How many of the last checkpoints are kept; 2 if not given.
    """

    resume: bool = False
    checkpoint_minutes: float | None = None
    checkpoint_steps: int | None = None
    keep_checkpoints: int | None = None

    def __post_init__(self) -> None:
        if self.checkpoint_minutes is not None and self.checkpoint_steps is not None:
            raise ValueError("--checkpoint-minutes and --checkpoint-steps both say how often. Pass one of them.")
        if self.checkpoint_minutes is not None:
            arguments.positive("--checkpoint-minutes", self.checkpoint_minutes)
        for option, value in (
            ("--checkpoint-steps", self.checkpoint_steps),
            ("--keep-checkpoints", self.keep_checkpoints),
        ):
            if value is not None:
                arguments.count(option, value)
        told = (self.checkpoint_minutes, self.checkpoint_steps, self.keep_checkpoints)
        if not self.resume and any(value is not None for value in told):
            raise ValueError("Checkpoints are written with --resume alone. Pass it too, or leave out their options.")

    def finished(self, out: Path, record: RunRecord, *, overwrite: bool) -> bool:
        """Returns whether the run stands whole, where it is resumed.

        Args:
            out: The run's folder.
            record: What this command would write into it.
            overwrite: Whether a run that stands is to be replaced: it is whole then only if it is the one that the
                checkpoints beside it are of.

        Raises:
            ValueError: Another run stands there.
        """
        if not self.resume or not (out / "run.json").exists():
            return False
        found = RunRecord.from_file(out / "run.json")
        if found.interrupted:
            return False
        if overwrite:
            with suppress(ValueError, OSError):
                last = last_checkpoint(checkpoints_of(out))
                return last is not None and differing(last.progress.settings, found.settings) is None
            return False
        if (difference := differing(found.settings, record.settings)) is not None:
            name, was, now = difference
            raise ValueError(
                f"{out} is a finished run whose {name} was {was}; received {now}. Choose another --out, or pass "
                "--overwrite to train anew."
            )
        with suppress(ValueError), being_written(out):  # left by a process that was killed between the two
            remove(checkpoints_of(out))
        return True

    def begin(self, out: Path, settings: Mapping[str, Any], *, overwrite: bool, members: int = 1) -> Checkpoints | None:
        """Says where the training goes on, or that it starts, and returns where its checkpoints lie; None without.

        Args:
            out: The run's folder.
            settings: What the training depends on, plain JSON types by name.
            overwrite: Whether checkpoints of another training may go.
            members: Trainings, each of which has checkpoints of its own.

        Raises:
            OSError: A checkpoint cannot be read.
            ValueError: The checkpoints are of another training, or none of them is whole.
        """
        if not self.resume:
            return None
        checkpoints = Checkpoints(
            folder=checkpoints_of(out),
            minutes=self.checkpoint_minutes,
            steps=self.checkpoint_steps,
            keep=self.keep_checkpoints or Checkpoints.keep,
            settings=settings,
        )
        each = [checkpoints.of_member(number) for number in range(members)] if members > 1 else [checkpoints]
        if not overwrite:
            _check_others(checkpoints, each, settings)
        ended = [Finished.of(one) for one in each] if members > 1 else []
        whole = [one for one in ended if one is not None]
        last = each[min(len(whole), members - 1)].folder
        try:
            found = last_checkpoint(last)
        except ValueError:
            if not overwrite:
                raise
            found = None
        known = [one.settings for one in whole] + ([] if found is None else [found.progress.settings])
        if not known or (overwrite and any(differing(one, settings) is not None for one in known)):
            start_anew(checkpoints.folder)
            print_lines(["starts"])
            return checkpoints
        for member in whole:
            member.check(settings)
        if found is not None:
            found.check(settings)
        step = "" if found is None else f" at step {found.progress.done:,} of {found.progress.total:,}"
        which = f" with member {min(len(whole) + 1, members)} of {members}" if members > 1 else ""
        print_lines([f"goes on{which}{step}"])
        return checkpoints


def _check_others(checkpoints: Checkpoints, each: list[Checkpoints], settings: Mapping[str, Any]) -> None:
    """Raises ValueError where a training of another number of members has left what this one would remove."""
    mine = [one.folder for one in each]
    for folder in (checkpoints.folder, *sorted(checkpoints.folder.glob("member-*"))):
        if folder not in mine:
            for found in (Finished.of(replace(checkpoints, folder=folder)), last_checkpoint(folder)):
                if found is not None:
                    found.check(settings)


def first_day(checkpoints: Checkpoints | None) -> int:
    """Returns the day on which a training was started first, in days since 1970-01-01; today without checkpoints."""
    if checkpoints is None:
        return today()
    starts = Starts.noted(checkpoints)
    starts.write(checkpoints.folder)
    return starts.day


def checkpoints_of(out: Path) -> Path:
    """Returns the folder of the checkpoints of a run."""
    place = out.resolve()
    return place.with_name(f".{place.name}.checkpoints")
