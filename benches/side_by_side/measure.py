"""Runs one program to its end and says what it cost."""

import os
import select
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# How often the peak memory of a running tool is looked at, in seconds. The kernel keeps the peak,
# so looking seldom loses only what is allocated just before the end.
LOOK_EVERY = 0.02
# A run that takes longer, in seconds, is killed and counts as failed.
LIMIT = 600


@dataclass(frozen=True)
class Sample:
    """What one run of a tool cost, with everything that it started and waited for."""

    wall: float  # seconds
    cpu: float  # seconds, user and system
    peak: float  # MiB, of the tool itself


class RunFailed(Exception):
    """A tool did not do the work, so its figures would mean nothing."""


def run(argv: list[str], folder: Path, env: dict[str, str], log: Path) -> Sample:
    """Runs a program in a folder; its output is thrown away, its errors go to `log`."""
    with open(log, "wb") as errors:
        began = time.perf_counter()
        # Python starts it by vfork: a fork of this process would be part of the figures.
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            close_fds=False,
        )
        seen = _watch(process, began)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_bytes()[-2000:].decode(errors="replace")
        raise RunFailed(f"{Path(argv[0]).name} ended with {process.returncode}: {tail.strip()}")
    # `ru_maxrss` begins with the size of whoever started the process, so it says something about
    # the tool only where it exceeds that.
    reported = usage.ru_maxrss / 1024
    peak = reported if reported > _peak_of("self") else seen
    return Sample(wall, usage.ru_utime + usage.ru_stime, peak)


def _watch(process: subprocess.Popen, began: float) -> float:
    """Waits for the end of a process without reaping it; gives its peak memory in MiB."""
    seen = 0.0
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(LOOK_EVERY * 1000):
            seen = max(seen, _peak_of(str(process.pid)))
            if time.perf_counter() - began > LIMIT:
                process.send_signal(signal.SIGKILL)
    finally:
        os.close(handle)
    return seen


def _peak_of(pid: str) -> float:
    """The peak memory of a process so far, in MiB; 0 where it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0.0


def median(samples: list[Sample], field: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(sample, field) for sample in samples)


def ratio(ours: list[Sample], theirs: list[Sample], field: str) -> float:
    """The median of the ratios of each round: both ran close to one another, so that what disturbs
    one is likely to disturb the other."""
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)
