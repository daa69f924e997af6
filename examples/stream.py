"""Finish half-drawn digits row by row, each printed as soon as it is there.

    noiseloom train forcing-digits --out runs/rows    # two minutes
    python examples/stream.py runs/rows

`rollout` is a generator: rows already made are remembered in a cache, memory does not grow, and
what the next row is told may depend on those before. Here each is told the class that the digit
looks like by now; an agent would choose its next action by the frame that it has just got.
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


def looks_like(rows: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    """The class, (B,), whose mean digit (10, 8, 8) is nearest to the rows so far, (B, n, 8)."""
    return (rows[:, None] - means[:, : rows.shape[1]]).square().sum((2, 3)).argmin(1)


def main(path: str) -> None:
    """Show the known rows of six held-out digits, then the others as they are made."""
    run = noiseloom.load(path, device="cpu")
    if run.recipe.name != "forcing-digits" or run.recipe.network != "causal":
        raise ValueError(f"{path} is no run of forcing-digits with its causal network")
    data = run.recipe.load(None)
    digits, labels = run.codec.encode(data.train.pixels), data.train.labels
    means = torch.stack([digits[labels == k].mean(0) for k in range(10)])
    seen = run.codec.encode(data.held_out.pixels[:6])[:, :KNOWN]

    def told(first: int, count: int) -> dict[str, torch.Tensor]:
        """What rows first, first + 1, ... are told: called when they are asked for."""
        return {"label": looks_like(seen, means)}

    rows = rollout(
        run.denoiser,
        run.diffusion,
        SamplingPlan.uniform(20),
        seen,
        memory=run.denoiser.network.memory,
        cond=told,
        rng=Rng(0),
    )
    show(seen)
    for made in rows:
        show(made.x)
        seen = torch.cat((seen, made.x), 1)
        if made.position + 1 == run.recipe.tokens:
            break


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/stream.py RUN, a run of forcing-digits")
    try:
        main(sys.argv[1])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
