"""What a scenario is, and how its contenders are run against one another."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import measure
from .measure import Sample


@dataclass(frozen=True)
class Prepared:
    """Work that is ready to be done; `check` raises `RunFailed` where it was not done."""

    argv: list[str]
    folder: Path
    env: dict[str, str]
    check: Callable[[], None] = lambda: None


@dataclass
class Contender:
    """A tool on the work of a scenario. `prepare` gets an empty folder; it is not measured."""

    name: str
    prepare: Callable[[Path], Prepared] | None  # nothing: not installed
    how_to_install: str = ""
    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    @property
    def status(self) -> str:
        """Where it has no figures: why."""
        if self.prepare is None:
            return f"not installed ({self.how_to_install})"
        return f"failed: {self.failure}" if self.failure else "ran"


@dataclass(frozen=True)
class Goal:
    """A figure that should not exceed a limit, or not fall below it."""

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is reached."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Scenario:
    """The same work for all contenders."""

    name: str
    title: str
    tasks: int
    reference: str  # the contender that ratios refer to
    contenders: list[Contender]
    # Works out figures that are more than ratios, as lines of text, and goals.
    judge: Callable[["Scenario"], tuple[list[str], list[Goal]]]
    scratch: Path

    def of(self, name: str) -> list[Sample]:
        """The samples of a contender; none where it did not run."""
        return next((c.samples for c in self.contenders if c.name == name), [])

    def wall(self, name: str) -> float | None:
        """The median wall time of a contender in seconds."""
        samples = self.of(name)
        return measure.median(samples, "wall") if samples else None

    def ratio(self, ours: str, theirs: str, field: str = "wall") -> float | None:
        """The median ratio of two contenders."""
        a, b = self.of(ours), self.of(theirs)
        return measure.ratio(a, b, field) if a and b else None

    def run(self, rounds: int, log: Path) -> None:
        """Lets the contenders take turns, each round beginning with another one.

        Every run gets a fresh folder, and nothing is removed between the runs: on some file systems
        making files is several times slower after many were removed.
        """
        for number in range(rounds):
            turn = number % len(self.contenders)
            for contender in self.contenders[turn:] + self.contenders[:turn]:
                if contender.prepare is None or contender.failure:
                    continue
                print(f"  {self.name}: round {number + 1}, {contender.name}", file=sys.stderr)
                place = f"{self.name}-{number}-{contender.name}".replace(" ", "-")
                folder = self.scratch / place
                folder.mkdir(parents=True)
                try:
                    prepared = contender.prepare(folder)
                    os.sync()
                    sample = measure.run(prepared.argv, prepared.folder, prepared.env, log)
                    prepared.check()
                except measure.RunFailed as failed:
                    contender.failure = str(failed)
                    contender.samples.clear()
                    continue
                contender.samples.append(sample)


def goals(*candidates: tuple[str, float | None, float, bool]) -> list[Goal]:
    """The goals whose figure is there: a peer may be missing."""
    return [Goal(t, value, limit, up) for t, value, limit, up in candidates if value is not None]
