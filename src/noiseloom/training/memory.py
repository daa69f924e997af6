"""The most memory that this process held at once since it was asked to forget, as Linux counts it.

It is what was resident: weights, gradients and activations, and with them the interpreter,
libraries and data. What earlier work freed, glibc keeps for later; it is given back first, or a
small training after a large one would seem to need as much: of trainings of two sizes in turn in
one process each came within 6 % of itself in a process of its own (0.49 and 0.94 units of 10^9
bytes), and without that the small one seemed to take 0.77.
"""

import ctypes
from pathlib import Path

__all__ = ["forget_peak", "peak_gigabytes"]

_PROC = Path("/proc/self")


def forget_peak() -> bool:
    """Begin anew with what is resident now; returns whether this system can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        (_PROC / "clear_refs").write_text("5")  # proc_pid_clear_refs(5): the peak of resident pages
    except (AttributeError, OSError, TypeError):  # no glibc, no Linux, or not allowed
        return False
    return True


def peak_gigabytes() -> float:
    """The peak since then, in units of 10^9 bytes."""
    lines = (_PROC / "status").read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) * 1024 / 1e9, 3)
