"""Where the time of an update goes: `python benchmarks/trace.py forcing-doom --data FILE`.

Makes updates as `noiseloom train` does, compiled on a GPU, and traces some of them: the kernels
that took the most time, how long the device was busy, and how long an update took on the clock.
Options of the recipe may follow, as in batch_size=16.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.profiler import ProfilerActivity, profile

from noiseloom.budget import updates
from noiseloom.recipes import RECIPES


def main() -> None:
    """Warm up, trace, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("options", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--data")
    parser.add_argument("--turns", type=int, default=2, help="of 50 updates on a GPU, 1 on a CPU")
    parser.add_argument("--rows", type=int, default=30)
    args = parser.parse_intermixed_args()
    options: dict[str, Any] = {
        name: yaml.safe_load(value) for name, value in (o.split("=", 1) for o in args.options)
    }
    recipe, gpu = RECIPES[args.recipe](**options), torch.cuda.is_available()
    kind = ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU
    with tempfile.TemporaryDirectory() as folder:
        loop = updates(recipe, args.data, Path(folder) / "run", recipe.threads or 1)
        with contextlib.closing(loop):
            for _ in range(args.turns):
                first = next(loop)
            began = time.perf_counter()
            with profile(activities=[kind]) as found:
                for _ in range(args.turns):
                    last = next(loop)
            took = (time.perf_counter() - began) / (last - first)
    averages = found.key_averages()
    order = "self_cuda_time_total" if gpu else "self_cpu_time_total"
    print(averages.table(sort_by=order, row_limit=args.rows, max_name_column_width=90))
    busy = sum(e.self_device_time_total if gpu else e.self_cpu_time_total for e in averages)
    print(f"{took * 1e3:.2f} ms an update, busy {busy / (last - first) / 1e3:.2f} ms")


if __name__ == "__main__":
    main()
