"""Many commands on one machine, the most important first, within a time limit.

    python tools/agenda.py tools/mazes.yaml --out tables --limit 1500

The file is a list of {name, run, after, lane, seconds}: a command of `noiseloom` (or, with
python: true, of Python), names of those that must have ended well before it, the lane it runs in,
and about how long it takes. Lanes run beside each other, each so many commands at a time
(`--lanes gpu=2,cpu=6`). In commands {out} is the folder. What cannot end in time is not begun; at
the limit what still runs is told so (SIGTERM: an evaluation of videos, or of codes, then judges and
keeps what it has made), and ended if it has not after `--grace` seconds. `jobs.jsonl` says what was
run and how it ended, `logs` what it said; called again, it goes on with what has not ended well.

Programs that share a GPU wait for each other: two at a time hide each other's loading and
compiling, more of them only slow each other.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CLI = [sys.executable, "-c", "import sys; from noiseloom.cli import main; sys.exit(main())"]


@dataclass
class Job:
    """A command, and how it stands: waiting, running, done, failed, stopped or elsewhere."""

    name: str
    run: str
    after: list[str] = field(default_factory=list)
    lane: str = "gpu"
    seconds: float = 60
    python: bool = False
    state: str = "waiting"
    began: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self, out: Path) -> None:
        """Begin, in a process group of its own."""
        words = shlex.split(self.run.format(out=out))
        command = [sys.executable, *words] if self.python else [*CLI, *words]
        with (out / "logs" / f"{self.name}.log").open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.state, self.began = "running", time.monotonic()

    def ask_to_stop(self) -> None:
        """Tell it, and what it has begun, that there is no more time."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.process.pid, signal.SIGTERM)
        self.state = "stopped"

    def end(self, seconds: float) -> None:
        """Wait so long for it to stop, then end it."""
        assert self.process is not None
        try:
            self.process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def read(path: Path, only: list[str] | None) -> list[Job]:
    """The jobs of a file; those that are not asked for are expected of another agenda."""
    jobs = [Job(**entry) for entry in yaml.safe_load(path.read_text())]
    names = [job.name for job in jobs]
    for job in jobs:
        if names.count(job.name) > 1 or set(job.after) - set(names):
            raise SystemExit(f"{path}: {job.name} is named twice, or follows what there is not")
    if only is None:
        return jobs
    if missing := set(only) - set(names):
        raise SystemExit(f"{path} has no {', '.join(sorted(missing))}")
    for job in jobs:
        job.state = "waiting" if job.name in only else "elsewhere"
    return sorted(jobs, key=lambda job: only.index(job.name) if job.name in only else len(only))


def refresh(jobs: list[Job], out: Path) -> None:
    """Mark what has ended well, here or elsewhere, now or before."""
    kept = out / "jobs.jsonl"
    lines = kept.read_text().splitlines() if kept.is_file() else []
    ended = {row["name"] for row in map(json.loads, lines) if row["code"] == 0}
    for job in jobs:
        if job.state in ("waiting", "elsewhere") and job.name in ended:
            job.state = "done"


def at_an_end(jobs: list[Job]) -> bool:
    """Whether nothing runs, and nothing waits for another agenda."""
    elsewhere = {job.name for job in jobs if job.state == "elsewhere"}
    waits = any(job.state == "waiting" and elsewhere & set(job.after) for job in jobs)
    return not waits and not any(job.state == "running" for job in jobs)


def ready(job: Job, jobs: list[Job], lanes: dict[str, int], left: float) -> bool:
    """Whether a job can begin now."""
    states = {other.name: other.state for other in jobs}
    busy = sum(other.state == "running" and other.lane == job.lane for other in jobs)
    done = all(states[name] == "done" for name in job.after)
    return job.state == "waiting" and done and busy < lanes.get(job.lane, 1) and job.seconds <= left


def collect(jobs: list[Job], out: Path) -> None:
    """Take note of what has ended."""
    for job in jobs:
        code = job.process.poll() if job.state == "running" and job.process else None
        if code is None:
            continue
        job.state = "done" if code == 0 else "failed"
        took = round(time.monotonic() - job.began, 1)
        row: dict[str, Any] = {"name": job.name, "run": job.run, "code": code, "seconds": took}
        with (out / "jobs.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{job.state} {job.name}: {took:.0f} s", flush=True)


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True, help="seconds")
    parser.add_argument("--grace", type=float, default=120, help="seconds, beyond the limit")
    parser.add_argument("--lanes", default="gpu=2,cpu=6")
    parser.add_argument("--only", type=lambda names: names.split(","), help="names, in order")
    options = parser.parse_args()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    lanes = {name: int(n) for name, n in (part.split("=") for part in options.lanes.split(","))}
    jobs, end = read(options.file, options.only), time.monotonic() + options.limit
    try:
        while (left := end - time.monotonic()) > 0:
            collect(jobs, options.out)
            refresh(jobs, options.out)
            for job in jobs:
                if ready(job, jobs, lanes, left):
                    job.start(options.out)
                    print(f"began {job.name}, {left:.0f} s left", flush=True)
            if at_an_end(jobs):
                break
            time.sleep(0.5)
    finally:
        running, end = [job for job in jobs if job.state == "running"], time.monotonic()
        for job in running:
            job.ask_to_stop()
        for job in running:
            job.end(end + options.grace - time.monotonic())
    for state in ("failed", "stopped", "waiting"):
        if names := [job.name for job in jobs if job.state == state]:
            print(f"{state}: {', '.join(names)}")


if __name__ == "__main__":
    main()
