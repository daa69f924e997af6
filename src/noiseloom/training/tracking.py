"""Where a run's numbers go: a JSONL file always, TensorBoard if wanted, a line on the terminal.

A record is what one update left behind: `step` (1, 2, ...), `loss`, `learning_rate`, `grad_norm`
before clipping, and `seconds` of training; a model that is `Reporting` adds its own to those that
are fetched, and a GPU the most memory that was allocated at once (`gpu_gigabytes`). On a CPU those
of checkpoints have, under Linux, the most that this process held (`peak_gigabytes`). Anything with
`write` and `close` is a tracker.
"""

import importlib.util
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from torch import Tensor

__all__ = ["Metrics", "Progress", "Record", "Reporting", "TensorBoard", "Tracker", "show"]

Record: TypeAlias = dict[str, float]
"""The numbers of one update, by name."""


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        step: updates made.
        steps: updates wanted.
        loss: mean loss of the updates since the progress before.
        learning_rate: of the last update.
        grad_norm: norm of the last update's gradient, before clipping.
        samples_per_second: over the last 20 seconds.
        seconds_left: at that speed.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    samples_per_second: float
    seconds_left: float


_REMEDY = "free some space and continue with --resume"


@runtime_checkable
class Reporting(Protocol):
    """A model with numbers of its own for the records."""

    def report(self) -> Mapping[str, Tensor]:
        """Scalars by name, on the device; asked for at each fetch of the losses."""


class Tracker(Protocol):
    """A place for records; only the main process writes."""

    def write(self, records: Sequence[Record]) -> None:
        """Take the records of some consecutive updates."""

    def close(self) -> None:
        """Finish."""


class Metrics:
    """`metrics.jsonl`: one JSON object per line, one line per update, without gaps or repeats.

    Args:
        path: the file. Lines of updates after `step`, and a last line that was cut off, are
            removed: the updates are about to be made again.
        step: updates made so far.

    Raises:
        ValueError: a line of one of these updates is missing or damaged.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        self.seconds = 0.0
        lines = path.read_bytes().splitlines(keepends=True)[:step] if path.is_file() else []
        for k in range(1, step + 1):
            self.seconds = _seconds(path, k, lines[k - 1] if k <= len(lines) else b"")
        self._file = path.open("ab", buffering=0)
        self._file.truncate(sum(map(len, lines)))

    def write(self, records: Sequence[Record]) -> None:
        """Append records.

        Raises:
            OSError: the disk is full.
        """
        lines = "".join(json.dumps(record) + "\n" for record in records).encode()
        try:
            written = self._file.write(lines)
        except OSError as error:
            raise OSError(f"cannot write {self.path} ({error}): {_REMEDY}") from error
        if written != len(lines):
            raise OSError(f"cannot write {self.path} (no space left): {_REMEDY}")

    def sync(self) -> None:
        """Make sure that all that was written is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard:
    """Event files for TensorBoard, opened at the first record.

    Args:
        folder: where, `tensorboard` in the run's folder.

    Raises:
        ImportError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if not self.installed():
            raise ImportError("TensorBoard is not installed: pip install tensorboard")
        self.folder = folder
        self._writer: Any = None

    @staticmethod
    def installed() -> bool:
        """Whether the package is there."""
        return importlib.util.find_spec("tensorboard") is not None

    def write(self, records: Sequence[Record]) -> None:
        """Add the records; what an earlier attempt wrote for the same updates is hidden."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            first = int(records[0]["step"])
            self._writer = SummaryWriter(str(self.folder), purge_step=first)
        for record in records:
            for name in record.keys() - {"step"}:
                self._writer.add_scalar(name, record[name], int(record["step"]))

    def close(self) -> None:
        """Finish the event file."""
        if self._writer is not None:
            self._writer.close()


def show(
    run: Iterable[Progress], *, every: float = 5.0, console: Console | None = None
) -> Iterator[Progress]:
    """Pass a run on, and draw it: a moving line on a terminal, else a plain line now and then.

    Only the main process of several draws.

    Args:
        run: what `train` returns.
        every: seconds between two plain lines.
        console: where to draw; standard error by default.
    """
    console = console or Console(stderr=True)
    if os.environ.get("RANK", "0") != "0":
        yield from run
    elif console.is_terminal:
        yield from _moving(run, console)
    else:
        yield from _plain(run, every, console)


def _seconds(path: Path, step: int, line: bytes) -> float:
    """What a line says of the time, if it is the whole line of an update."""
    try:
        record = json.loads(line)
        if line.endswith(b"\n") and record["step"] == step:
            return float(record["seconds"])
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(
        f"{path} has no line {step} of update {step}: restore it from a copy, or train again"
    )


def _moving(run: Iterable[Progress], console: Console) -> Iterator[Progress]:
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting")
        for now in run:
            bar.update(task, completed=now.step, total=now.steps, description=_line(now))
            yield now


def _plain(run: Iterable[Progress], every: float, console: Console) -> Iterator[Progress]:
    last = -float("inf")
    for now in run:
        if now.step == now.steps or time.monotonic() - last >= every:
            last = time.monotonic()
            console.print(_line(now), markup=False, highlight=False, soft_wrap=True)
        yield now


def _line(now: Progress) -> str:
    minutes, seconds = divmod(round(now.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    speed = f"{now.samples_per_second:,.0f} samples/s"
    return f"step {now.step}/{now.steps}  loss {now.loss:.4g}  {speed}  {left} left"
