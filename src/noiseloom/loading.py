"""From a run's folder (`run_folder`) to the run, ready to sample."""

from dataclasses import replace
from pathlib import Path

import torch

from noiseloom.prior_folder import load_prior
from noiseloom.recipes import Recipe
from noiseloom.run import Run
from noiseloom.run_folder import find, read_description, recipe_of
from noiseloom.training import checkpoint

__all__ = ["load", "without_prior"]


def load(
    source: str | Path,
    *,
    weights: str = "ema",
    device: torch.device | str | None = None,
    recipe: type[Recipe] | None = None,
) -> Run:
    """Load a run, ready to sample.

    Args:
        source: a run's folder, the name of a model shipped with the package ("bits-digits"), or a
            repository on the Hugging Face Hub ("owner/name", or "hf://owner/name").
        weights: "ema" or "model".
        device: where to; by default a GPU if there is one.
        recipe: the class of a recipe that is not this package's.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: weights that do not fit the recipe, or a prior that does not fit the model.

    Example:
        >>> import torch
        >>> run = load("bits-digits", device="cpu").with_options(sampling_steps=10)
        >>> run.pixels(torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
    """
    run = without_prior(source, weights=weights, device=device, recipe=recipe)
    prior = load_prior(run.folder, run.recipe, run.facts, run.device)
    return replace(run, parts=replace(run.parts, prior=prior))


def without_prior(
    source: str | Path,
    *,
    weights: str = "ema",
    device: torch.device | str | None = None,
    recipe: type[Recipe] | None = None,
) -> Run:
    """What `load` returns, without its prior, which may be damaged or for other codes."""
    folder = find(str(source))
    described = read_description(folder)
    made = recipe_of(described, recipe)
    made.recall(described["data"])
    parts = made.build(described["facts"])
    path = folder / f"{weights}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the run has no checkpoint yet")
    checkpoint.restore(parts.denoiser, path)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    parts.denoiser.to(place).eval().requires_grad_(False)
    return Run(folder, made, described["facts"], parts)
