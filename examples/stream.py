"""Finish half-drawn digits row by row, each printed as soon as it is there.

    noiseloom train forcing-digits --out runs/rows    # two minutes
    python examples/stream.py runs/rows

`rollout` is a generator: rows already made are remembered in a cache, memory does not grow, and
what the next row is told (here the class, in other models an action) may depend on those before.
"""

import sys

import torch

import noiseloom
from noiseloom import Rng, SamplingPlan, rollout

SHADES = " .:-=+*#%@"
KNOWN = 3


def show(rows: torch.Tensor) -> None:
    """Print rows of digits, (B, n, 8) in [-1, 1], side by side."""
    for row in rows.unbind(1):
        level = ((row.clamp(-1, 1) + 1) / 2 * (len(SHADES) - 1)).round().int()
        print("   ".join("".join(SHADES[v] * 2 for v in digit) for digit in level.tolist()))


def main(path: str) -> None:
    """Show the known rows of six held-out digits, then the others as they are made."""
    run = noiseloom.load(path, device="cpu")
    if run.recipe.name != "forcing-digits" or run.recipe.network != "causal":
        raise ValueError(f"{path} is no run of forcing-digits with its causal network")
    held = run.recipe.load(None).held_out
    known = run.codec.encode(held.pixels[:6])[:, :KNOWN]
    label = held.labels[:6]

    def told(first: int, count: int) -> dict[str, torch.Tensor]:
        """What rows first, first + 1, ... are told: called when they are asked for."""
        return {"label": label}

    rows = rollout(
        run.denoiser,
        run.diffusion,
        SamplingPlan.uniform(20),
        known,
        memory=run.denoiser.network.memory,
        cond=told,
        rng=Rng(0),
    )
    show(known)
    for made in rows:
        show(made.x)
        if made.position + 1 == run.recipe.tokens:
            break


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/stream.py RUN, a run of forcing-digits")
    try:
        main(sys.argv[1])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
