"""The scenario with git: worktrees, commits and merges."""

import subprocess
from pathlib import Path

from . import tools
from .measure import RunFailed
from .scenario import Contender, Goal, Prepared, Scenario, goals

TASKS = 20
FILES = 200
SLOTS = 4
FLOOR, KEEPING, ORCH, PRAETOR = "git floor", "git floor, no removal", "orch", "praetor"

# The agent of all contenders. It is called as `claude -p ... PROMPT`, since that is how praetor
# calls agents; the prompt ends with the name of the file to write.
AGENT = """#!/bin/sh
set -e
for prompt; do :; done
file="${prompt##* }"
echo "what was asked for" > "$file"
git add "$file"
git commit -q -m "write $file"
"""

# What git alone takes, one task after the other, in the way that its manual shows.
FLOOR_SCRIPT = """#!/bin/sh
set -e
for n in $(seq {tasks}); do
    git worktree add -q -b "floor/t$n" "../worktrees/t$n" main
    (cd "../worktrees/t$n" && claude -p "write file new-$n.txt")
    git merge -q --no-ff -m "merge t$n" "floor/t$n"
    {remove}
done
"""


def scenario(orch: Path, scratch: Path, where: str) -> Scenario:
    """Independent tasks that each write a file and commit it."""
    tool = _Merging(orch, scratch)
    praetor = tools.find("praetor")
    contenders = [
        Contender(ORCH, tool.orch),
        Contender(FLOOR, lambda folder: tool.floor(folder, removing=True)),
        Contender(KEEPING, lambda folder: tool.floor(folder, removing=False)),
        Contender(
            PRAETOR,
            (lambda folder: tool.praetor(praetor, folder)) if praetor else None,
            tools.HOW_TO_INSTALL["praetor"],
        ),
    ]

    def judge(scenario: Scenario) -> tuple[list[str], list[Goal]]:
        speed_up = scenario.ratio(PRAETOR, ORCH)
        return [f"repositories on {where}"], goals(
            ("wall, orch / git floor", scenario.ratio(ORCH, FLOOR), 1.5, False),
            ("wall, praetor / orch", speed_up, 3.0, True),
        )

    title = (
        f"{TASKS} independent tasks that write a file and commit: worktree, agent, merge; "
        f"{FILES} files, -j{SLOTS}"
    )
    return Scenario("merge", title, TASKS, FLOOR, contenders, judge, scratch)


class _Merging:
    """Prepares repositories and the way that each tool is told about the tasks."""

    def __init__(self, orch: Path, scratch: Path) -> None:
        self.orch_path = orch
        programs = scratch / "agent"
        programs.mkdir(parents=True)
        agent = programs / "claude"
        agent.write_text(AGENT)
        agent.chmod(0o755)
        self.agent = agent
        self.env = tools.environment(scratch)
        self.env["PATH"] = f"{programs}:{self.env['PATH']}"

    def _git(self, repository: Path, *arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=repository, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RunFailed(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _repository(self, folder: Path) -> Path:
        repository = folder / "repository"
        repository.mkdir()
        self._git(repository, "init", "-q", "-b", "main")
        for index in range(FILES):
            file = repository / f"folder{index % 20}" / f"file{index}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"line of file {index}\n" * 40)
        self._git(repository, "add", ".")
        self._git(repository, "commit", "-q", "-m", "begin")
        return repository

    def _prepared(self, argv: list[str], repository: Path) -> Prepared:
        def check() -> None:
            files = self._git(repository, "ls-tree", "--name-only", "main").split()
            written = sum(name.startswith("new-") for name in files)
            if written != TASKS:
                raise RunFailed(f"{written} of {TASKS} tasks were merged")

        return Prepared(argv, repository, self.env, check)

    def orch(self, folder: Path) -> Prepared:
        repository = self._repository(folder)
        lines = ["version = 1", "[defaults]", "retries = 0"]
        for n in range(1, TASKS + 1):
            run = f'["claude", "-p", "write file new-{n}.txt"]'
            lines += ["[[task]]", f'id = "t{n}"', f"run = {run}"]
        (folder / "plan.toml").write_text("\n".join(lines) + "\n")
        argv = [str(self.orch_path), "run", "../plan.toml", f"-j{SLOTS}"]
        return self._prepared(argv, repository)

    def floor(self, folder: Path, removing: bool) -> Prepared:
        repository = self._repository(folder)
        remove = 'git worktree remove "../worktrees/t$n"' if removing else ":"
        script = folder / "floor.sh"
        script.write_text(FLOOR_SCRIPT.format(tasks=TASKS, remove=remove))
        return self._prepared(["/bin/sh", str(script)], repository)

    def praetor(self, program: str, folder: Path) -> Prepared:
        repository = self._repository(folder)
        subprocess.run(
            [program, "init"], cwd=repository, env=self.env, capture_output=True, check=True
        )
        self._git(repository, "add", ".gitignore")
        self._git(repository, "commit", "-q", "-m", "ignore .praetor")
        for n in range(1, TASKS + 1):
            created = f"2026-01-01T00:00:{n:02}Z"
            (repository / ".praetor" / "tasks" / f"t{n}.md").write_text(
                f"---\nid: t{n}\nstatus: pending\nagent: claude\nmerge_strategy: auto\n"
                f"created: '{created}'\n---\nwrite file new-{n}.txt\n"
            )
        argv = [program, "run", "--adapter", "claude", "--max-parallel", str(SLOTS)]
        return self._prepared(argv, repository)
