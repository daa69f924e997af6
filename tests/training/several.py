"""What one of two processes does in tests of how they part: `several.py OUT MODE`.

All but the recipes train the toy run; in its third update the second process comes to harm. The
first one then waits for it, or is busy and does not notice.

torchrun looks every LOOK seconds whether a process has ended, and ends the others, whether they
have heard of it or not. So the second one ends shortly after such a look.
"""

import atexit
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import torch
from torch import distributed
from toy_run import OPTIONS, finish, toy_loss

from noiseloom import cli

OUT, MODE = (Path(sys.argv[1]), sys.argv[2]) if __name__ == "__main__" else (Path(), "")
RECIPE = "train bits-digits --width 8 --head-width 8 --multipliers [1] --batch-size 8 --steps 2"
UPDATES = []
LOOK = 3
HARMS = ("error", "pending", "bug", "script with a bug", "killed")


def harmed(model, batch, rng, rows):
    UPDATES.append(rows)
    if MODE == "slow":
        time.sleep(0.1)
    if len(UPDATES) == 3 and os.environ["RANK"] == "0" and MODE == "pending":
        time.sleep(600)
    if len(UPDATES) == 3 and os.environ["RANK"] == "1" and MODE in HARMS:
        time.sleep(LOOK - (time.time() - psutil.Process().create_time() - 0.7) % LOOK)
        if MODE == "pending":  # a sum that the first does not join
            distributed.all_reduce(torch.ones(1000), async_op=True)
        if MODE in ("error", "pending"):
            raise ValueError("a broken picture")
        if MODE in ("bug", "script with a bug"):
            raise LookupError("a bug")
        if MODE == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    return toy_loss(model, batch, rng, rows)


def toy(*_):
    finish(OUT, OPTIONS, loss=harmed, resume=True)


def tell(when):
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    threads = sum("gloo" in name for name in names)
    # In one piece: the other process writes to the same pipe.
    told = f"{when}: group {distributed.is_initialized()}, {threads} threads of gloo\n"
    os.write(1, told.encode())


def main():
    torch.set_num_threads(1)
    atexit.register(tell, "at the end")  # after all that is registered later
    if MODE.startswith("script"):
        toy()
        if MODE == "script that destroys":
            distributed.destroy_process_group()
        sys.exit()
    if "recipe" not in MODE:
        cli.ACTIONS["train"] = toy
    if MODE == "recipes":  # a program that trains, not a command
        codes = [cli.main([*RECIPE.split(), "--no-evaluate", "--out", str(OUT / n)]) for n in "ab"]
        sys.exit(max(codes))
    sys.argv[1:] = [*RECIPE.split(), "--no-evaluate", "--out", str(OUT)]
    code = cli.main()
    tell("returned")
    sys.exit(code)


if __name__ == "__main__":
    main()
