"""Evaluations of the network that a comparison says are those that it makes."""

from collections import deque

import pytest
import torch

from noiseloom.recipes.by_calls import in_calls
from noiseloom.recipes.disco_mixture import DiscoMixture
from noiseloom.rng import Rng

FACTS = {"features": 2, "classes": [str(j) for j in range(8)]}


def counted(recipe, parts, given):
    """Evaluations a sample, counted by a hook."""
    calls = []
    hook = parts.denoiser.denoiser.register_forward_pre_hook(
        lambda _, args: calls.append(len(args[0]))
    )
    try:
        keys = Rng(0).samples(len(given["label"]))
        deque(recipe.draw(parts, FACTS, given, keys), maxlen=0)
    finally:
        hook.remove()
    return sum(calls) / len(given["label"])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "heun-edm", "dpm++2m"])
@pytest.mark.parametrize("plan", ["uniform", "karras"])
@pytest.mark.parametrize(
    "options", [{}, {"td": 0.5}, {"td": 1.0}, {"td": 2.5}, {"churn": 20.0}], ids=str
)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_is_said_is_what_is_made(sampler, plan, options, guidance):
    if sampler == "dpm++2m" and options:
        return  # its rows must touch
    recipe = DiscoMixture(
        m=1, k=3, width=8, sampler=sampler, plan=plan, code_guidance=guidance, **options
    )
    parts = recipe.build(FACTS)
    given = {"label": torch.zeros(2).long(), "codes": torch.zeros(2, 1).long()}
    wanted = (3, 5, 9, 19)
    for told in (given, {"label": given["label"]}):
        found = in_calls(recipe, parts, FACTS, told, wanted, 2)
        made = [counted(quick, parts, told) for quick, _ in found]
        assert made == [calls for _, calls in found]
        if guidance == 1 and not options:
            away = [abs(calls - n) for (_, calls), n in zip(found, wanted, strict=True)]
            assert away == [0, 0, 0, 0]
