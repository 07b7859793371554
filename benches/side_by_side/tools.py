"""Finds orch and its peers, and installs what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Where praetor is installed by `--install`.
VENV = REPOSITORY / "target" / "peers" / "venv"
HOW_TO_INSTALL = {
    "make": "apt-get install -y make",
    "ninja": "apt-get install -y ninja-build",
    "xargs": "apt-get install -y findutils",
    "praetor": f"python3 -m venv {VENV} && {VENV}/bin/pip install praetor-cli",
}


def build_orch() -> Path:
    """Builds the release `orch` of this repository."""
    command = ["cargo", "build", "--release", "--locked", "-p", "orch-cli"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
    return REPOSITORY / target / "release" / "orch"


def find(tool: str) -> str | None:
    """The program of a peer, or nothing where it is not installed."""
    own = VENV / "bin" / tool
    if own.exists():
        return str(own)
    return shutil.which(tool)


def version(program: str) -> str:
    """The first line that a program prints about its version."""
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return lines[0]
    # praetor has no such option; its package knows.
    python = Path(program).with_name("python")
    if not python.exists():
        return "version unknown"
    code = "from importlib.metadata import version; print('praetor-cli', version('praetor-cli'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "version unknown"


def install() -> None:
    """Installs the peers that are missing: system packages need root, praetor does not."""
    missing = [tool for tool in HOW_TO_INSTALL if find(tool) is None]
    for tool in missing:
        command = HOW_TO_INSTALL[tool]
        print(f"installing {tool}: {command}", file=sys.stderr)
        done = subprocess.run(command, shell=True, check=False, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            print(f"{tool} could not be installed; it will be left out", file=sys.stderr)


def environment(home: Path) -> dict[str, str]:
    """The environment of every contender: nobody's own configuration, and a name for commits."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / "config"),
        LC_ALL="C",
        GIT_CONFIG_GLOBAL="/dev/null",
        GIT_CONFIG_NOSYSTEM="1",
    )
    for role in ("AUTHOR", "COMMITTER"):
        env[f"GIT_{role}_NAME"] = "bench"
        env[f"GIT_{role}_EMAIL"] = "bench@localhost"
    # Nobody gets a share of the slots of a make around us.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    return env
