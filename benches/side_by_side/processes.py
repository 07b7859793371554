"""Scenarios without git: what it costs to start, order and await processes."""

from collections.abc import Callable
from pathlib import Path

from . import measure, tools, work
from .scenario import Contender, Goal, Prepared, Scenario, goals
from .work import Task

ORCH = "orch"


class Maker:
    """Makes contenders for some work."""

    def __init__(self, orch: Path, home: Path, tasks: list[Task], slots: int) -> None:
        self.orch_path = orch
        self.env = tools.environment(home)
        self.tasks = tasks
        self.slots = slots

    def orch(self, name: str = ORCH, estimates: bool = False, flags: tuple = ()) -> Contender:
        """orch as it is used: journal on and durable, events told as lines."""

        def prepare(folder: Path) -> Prepared:
            work.write_plan(self.tasks, folder / "plan.toml", estimates)
            argv = [str(self.orch_path), "run", "plan.toml", f"-j{self.slots}", *flags]
            return Prepared(argv, folder, self.env)

        return Contender(name, prepare)

    def peer(self, name: str) -> Contender:
        """make, ninja or xargs."""
        program = tools.find(name)
        if program is None:
            return Contender(name, None, tools.HOW_TO_INSTALL[name])
        writers: dict[str, tuple[Callable, str, list[str]]] = {
            "make": (work.write_makefile, "Makefile", [program, f"-j{self.slots}"]),
            "ninja": (work.write_ninja, "build.ninja", [program, f"-j{self.slots}", "--quiet"]),
            "xargs": (
                work.write_lines,
                "lines",
                [program, "-a", "lines", "-n1", f"-P{self.slots}", *self.tasks[0].argv],
            ),
        }
        write, file, argv = writers[name]

        def prepare(folder: Path) -> Prepared:
            write(self.tasks, folder / file)
            return Prepared(argv, folder, self.env)

        return Contender(name, prepare)


def noop(orch: Path, scratch: Path) -> Scenario:
    """Ten thousand programs that do nothing."""
    tasks = [Task()] * 10_000
    make = Maker(orch, scratch, tasks, 8)

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        samples = scenario.of(ORCH)
        # From MiB to the MB of the goal.
        peak = measure.median(samples, "peak") * 2**20 / 1e6 if samples else None
        return [], goals(
            ("wall, orch / make", scenario.ratio(ORCH, "make"), 1.5, False),
            ("peak memory of orch, MB", peak, 40.0, False),
        )

    contenders = [make.orch(), make.peer("make"), make.peer("ninja"), make.peer("xargs")]
    title = "10,000 x /bin/true, -j8, no worktrees, journal durable"
    return Scenario("noop", title, len(tasks), "make", contenders, judge, scratch)


def chain(orch: Path, scratch: Path) -> Scenario:
    """Five hundred programs, each after the one before."""
    tasks = [Task(needs=(index - 1,) if index else ()) for index in range(500)]
    make = Maker(orch, scratch, tasks, 8)

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        hops = {
            contender.name: scenario.wall(contender.name) * 1000 / len(tasks)
            for contender in scenario.contenders
            if contender.samples
        }
        lines = [f"{name}: {hop:.2f} ms a hop" for name, hop in hops.items()]
        extra = hops[ORCH] - hops["make"] if ORCH in hops and "make" in hops else None
        return lines, goals(("ms a hop, orch - make", extra, 2.0, False))

    contenders = [make.orch(), make.peer("make"), make.peer("ninja")]
    title = "a chain of 500 x /bin/true"
    return Scenario("chain", title, len(tasks), "make", contenders, judge, scratch)


def layers(orch: Path, scratch: Path) -> Scenario:
    """Five thousand programs in a random graph."""
    tasks = work.layered(5_000, 100, seed=7)
    make = Maker(orch, scratch, tasks, 8)

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        return [], goals(("wall, orch / make", scenario.ratio(ORCH, "make"), 1.5, False))

    contenders = [make.orch(), make.peer("make"), make.peer("ninja")]
    title = "5,000 x /bin/true in a layered random graph (50 levels of 100, 1-3 needs each), -j8"
    return Scenario("layered", title, len(tasks), "make", contenders, judge, scratch)


def sleeps(orch: Path, scratch: Path) -> Scenario:
    """How well slots are kept busy."""
    tasks = [Task(("/bin/sleep", "0.5"))] * 64
    make = Maker(orch, scratch, tasks, 16)

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        wall = scenario.wall(ORCH)
        return [], goals(("wall of orch / 2.0 s", wall and wall / 2.0, 1.05, False))

    contenders = [make.orch(), make.peer("make"), make.peer("ninja")]
    title = "64 x sleep 0.5, -j16 (ideal: 2.0 s)"
    return Scenario("sleeps", title, len(tasks), "make", contenders, judge, scratch)


def waves(orch: Path, scratch: Path) -> Scenario:
    """Starting each task as soon as it may start, against going wave by wave."""
    slots = 8
    tasks = work.with_sleeps(work.layered(120, 12, seed=7), 0.02, 0.4, seed=8)
    make = Maker(orch, scratch, tasks, slots)
    ready, known, by_wave = "orch ready", "orch ready, estimates", "orch waves"

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        bound = work.lower_bound(tasks, slots)
        path = work.critical_path(tasks)
        lines = [f"lower bound {bound:.2f} s (critical path {path:.2f} s)"]
        for contender in scenario.contenders:
            if contender.samples:
                wall = scenario.wall(contender.name)
                lines.append(f"{contender.name}: {wall / bound:.3f} x the lower bound")
        return lines, goals(
            ("wall, ready / waves", scenario.ratio(ready, by_wave), 0.85, False),
        )

    contenders = [
        make.orch(ready),
        make.orch(known, estimates=True),
        make.orch(by_wave, flags=("--schedule", "waves")),
        make.peer("make"),
    ]
    title = "120 sleeps of 20-400 ms in a layered random graph (10 levels of 12), -j8"
    return Scenario("waves", title, len(tasks), by_wave, contenders, judge, scratch)
