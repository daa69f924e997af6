"""What a perfect model of Doom would show: `python benchmarks/doom_actions.py RECORDING`.

An evaluation of `forcing-doom` makes videos under recorded actions, which were chosen for what was
seen then: before a wall the walker turned. A video that has gone another way follows them all the
same, into walls, and its frames are no longer spread as the recorded ones are, even if nothing is
wrong with any of them. How far this alone takes it is measured with the game itself: the very
actions of an evaluation, pressed in games that began elsewhere.
"""

import argparse
import contextlib
import json

import numpy as np
import torch
from torch import Tensor

from noiseloom import Rng
from noiseloom.data.doom import Simulation, shrunk
from noiseloom.metrics.lite0 import Lite0Features
from noiseloom.recipes import ForcingDoom
from noiseloom.recipes.filming import drift_report


def played(actions: list[list[float]], seed: int, size: int) -> Tensor:
    """The frames that actions lead to in a game that begins elsewhere."""
    with contextlib.closing(Simulation(seed)) as game:
        pictures = [game.step(action).picture for action in actions]
    parts = [np.stack(pictures[i : i + 100]) for i in range(0, len(pictures), 100)]
    return torch.cat([shrunk(part, size) for part in parts])


def main() -> None:
    """Play, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", help="of noiseloom record doom")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--length", type=int, default=2000)
    options = parser.parse_args()
    recipe = ForcingDoom(samples=options.samples, length=options.length)
    data = recipe.load(options.recording)
    given, real = recipe.asked(data.held_out, recipe.samples)
    videos = [
        played(actions[recipe.context :].tolist(), 10**6 + i, real.shape[-1])
        for i, actions in enumerate(given["actions"])
    ]
    train = data.train.columns["frames"]
    features = Lite0Features().to("cuda" if torch.cuda.is_available() else "cpu")
    rng = Rng(0).fold("evaluation")
    found = drift_report(features, torch.stack(videos), real, train, recipe.stretch, rng)
    curve = json.loads(found.files[".curve.json"])
    print(json.dumps({"metrics": dict(found), "curve": curve}))


if __name__ == "__main__":
    main()
