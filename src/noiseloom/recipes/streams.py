"""Streams of a recipe of rows: how its options become a ramp of times, and its codes a text."""

from collections.abc import Iterator

from torch import Tensor

from noiseloom.recipes.classes import Classes
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.rng import Rng
from noiseloom.streaming import stream

__all__ = ["stream_rows"]


def stream_rows(
    recipe: Classes,
    parts: Parts,
    facts: Facts,
    known: Tensor,
    rng: Rng,
    slope: float | None = None,
) -> Iterator[Tensor]:
    """Tokens without end after those that are known, as they become certain.

    Args:
        recipe: the options.
        parts: of a trained model; its rows are the windows.
        facts: of its data.
        known: tokens (B, n), n >= 0.
        rng: a key of each row.
        slope: rows, and calls of the network, per token; None for as many that half a window is on
            the way.

    Yields:
        Tokens (B, k) that follow each other.

    Raises:
        ValueError: a model that was trained without such windows, or is no diffusion; a plan that
            has an order of its own; what `stream` refuses.
    """
    if recipe.state == "autoregressive" or not (recipe.ramps or recipe.any_order):
        raise ValueError(
            "a stream needs a diffusion that knows windows from clean to noise: train one with "
            "--ramps 0.5, of any state but autoregressive"
        )
    if recipe.plan not in ("uniform", "karras"):
        raise ValueError(f"a stream has an order of its own: leave plan {recipe.plan} out")
    if recipe.restarts:
        raise ValueError("a stream's tokens go down once, each in its time: leave restarts out")
    encode, decode = parts.codec.encode, parts.codec.decode
    plan, length = recipe.make_plan(parts.diffusion.schedule), facts["length"]
    pieces = stream(
        recipe.make_denoiser(parts.denoiser.eval(), {}),
        parts.diffusion,
        plan,
        encode(known).detach(),
        window=length,
        slope=2 * len(plan) / length if slope is None else slope,
        stabilisation=recipe.resting,
        settle=lambda state: encode(decode(state)).detach(),
        rng=rng,
        solver=recipe.make_solver(),
    )
    return (decode(piece.x) for piece in pieces)
