"""Shows what was measured."""

import os
from dataclasses import asdict

from . import measure
from .scenario import Scenario

# The version of the JSON.
VERSION = 1
COLUMNS = ("", "wall s", "least", "CPU s", "us/task", "peak MiB", "wall x", "CPU x")


def table(scenario: Scenario) -> str:
    """For people."""
    rows = [COLUMNS]
    remarks = []
    for contender in scenario.contenders:
        samples = contender.samples
        if not samples:
            remarks.append(f"  {contender.name}: {contender.status}")
            continue
        cpu = measure.median(samples, "cpu")
        ratios = [scenario.ratio(contender.name, scenario.reference, f) for f in ("wall", "cpu")]
        rows.append(
            (
                contender.name,
                f"{measure.median(samples, 'wall'):.3f}",
                f"{min(sample.wall for sample in samples):.3f}",
                f"{cpu:.3f}",
                f"{cpu * 1e6 / scenario.tasks:.0f}",
                f"{measure.median(samples, 'peak'):.1f}",
                *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [f"\n{scenario.name}: {scenario.title}"]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells))
    lines.append(f"  (x: median over the rounds of the ratio to {scenario.reference})")
    lines += remarks
    figures, goals = scenario.judge(scenario)
    lines += [f"  {figure}" for figure in figures]
    for goal in goals:
        sign = ">=" if goal.at_least else "<="
        verdict = "met" if goal.is_met else "MISSED"
        lines.append(f"  goal {verdict}: {goal.text} = {goal.value:.2f} {sign} {goal.limit:g}")
    return "\n".join(lines)


def as_json(scenarios: list[Scenario], about: dict) -> dict:
    """For programs: every sample, so that other figures can be worked out."""
    return {"version": VERSION, **about, "scenarios": [_scenario(s) for s in scenarios]}


def _scenario(scenario: Scenario) -> dict:
    figures, goals = scenario.judge(scenario)
    contenders = []
    for contender in scenario.contenders:
        entry = {"name": contender.name, "status": contender.status}
        if contender.samples:
            entry["median"] = {
                field: measure.median(contender.samples, field) for field in ("wall", "cpu", "peak")
            }
            entry["ratio"] = {
                field: scenario.ratio(contender.name, scenario.reference, field)
                for field in ("wall", "cpu")
            }
            entry["samples"] = [asdict(sample) for sample in contender.samples]
        contenders.append(entry)
    return {
        "name": scenario.name,
        "title": scenario.title,
        "tasks": scenario.tasks,
        "reference": scenario.reference,
        "contenders": contenders,
        "figures": figures,
        "goals": [asdict(goal) | {"met": goal.is_met} for goal in goals],
    }


def machine() -> dict:
    """What the figures were measured on."""
    load = os.getloadavg()[0]
    system = os.uname()
    return {"cpus": os.cpu_count(), "load": load, "system": f"{system.sysname} {system.release}"}
