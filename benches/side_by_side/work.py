"""The work: tasks with dependencies, written down for each tool."""

import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """A command and the numbers of the tasks before it."""

    argv: tuple[str, ...] = ("/bin/true",)
    needs: tuple[int, ...] = field(default=())


def layered(count: int, width: int, seed: int) -> list[Task]:
    """Levels of `width` tasks, each of which needs one to three of the level before."""
    rng = random.Random(seed)
    tasks = []
    for index in range(count):
        level = index // width
        needs = ()
        if level > 0:
            before = range((level - 1) * width, level * width)
            needs = tuple(sorted(rng.sample(before, rng.randint(1, min(3, width)))))
        tasks.append(Task(needs=needs))
    return tasks


def with_sleeps(tasks: list[Task], shortest: float, longest: float, seed: int) -> list[Task]:
    """Lets each task sleep for some time between the two, in seconds."""
    rng = random.Random(seed)
    return [
        replace(task, argv=("/bin/sleep", f"{rng.uniform(shortest, longest):.3f}"))
        for task in tasks
    ]


def lasts(task: Task) -> float:
    """How long a task sleeps, in seconds."""
    return float(task.argv[1]) if task.argv[0].endswith("sleep") else 0.0


def critical_path(tasks: list[Task]) -> float:
    """The time along the longest chain, in seconds."""
    ends: list[float] = []
    for task in tasks:
        ends.append(max((ends[other] for other in task.needs), default=0.0) + lasts(task))
    return max(ends)


def lower_bound(tasks: list[Task], slots: int) -> float:
    """What no schedule beats, in seconds."""
    return max(critical_path(tasks), sum(map(lasts, tasks)) / slots)


def write_plan(tasks: list[Task], file: Path, estimates: bool = False) -> None:
    """For orch."""
    lines = ["version = 1", "[defaults]", 'isolation = "none"', "retries = 0"]
    for index, task in enumerate(tasks):
        lines += ["[[task]]", f'id = "t{index}"', f"run = {json.dumps(task.argv)}"]
        if task.needs:
            lines.append(f"needs = {json.dumps([f't{other}' for other in task.needs])}")
        if estimates:
            lines.append(f'estimate = "{lasts(task) * 1000:.0f}ms"')
    file.write_text("\n".join(lines) + "\n")


def write_makefile(tasks: list[Task], file: Path) -> None:
    """For make."""
    names = " ".join(f"t{index}" for index in range(len(tasks)))
    lines = [f".PHONY: all {names}", f"all: {names}"]
    for index, task in enumerate(tasks):
        needs = " ".join(f"t{other}" for other in task.needs)
        lines += [f"t{index}: {needs}".rstrip(), "\t@" + " ".join(task.argv)]
    file.write_text("\n".join(lines) + "\n")


def write_ninja(tasks: list[Task], file: Path) -> None:
    """For ninja, which gives every command to a shell."""
    lines = ["rule run", "  command = $argv", "  description = $out"]
    for index, task in enumerate(tasks):
        needs = " ".join(f"t{other}" for other in task.needs)
        lines += [f"build t{index}: run {needs}".rstrip(), "  argv = " + " ".join(task.argv)]
    file.write_text("\n".join(lines) + "\n")


def write_lines(tasks: list[Task], file: Path) -> None:
    """For xargs, which knows no dependencies and runs one program."""
    file.write_text("".join(f"{index}\n" for index in range(len(tasks))))
