"""Every combination of guidance of rows of classes is composed in the order that is stated.

With d the trained denoiser, u of its conditions left out, and g what the guide adds,

    f(estimate) = tilt(u + scale (d(estimate) - u(estimate)), g)

is one function of the estimate: classifier-free guidance innermost, a guide around it, and around
both what hands on the estimate, which is f's own, whether from call to call (self-conditioning,
with momentum or not) or within one (self-guidance). Correctors and nudges move states by that.
"""

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noiseloom import Rng
from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser
from noiseloom.context import GuideOutput
from noiseloom.diffusion import CategoricalDiffusion, Prediction, mixed
from noiseloom.recipes import Guiding, Sequences, Tables, Text
from noiseloom.shapes import align
from noiseloom.steering import steering_of

FACTS = {"length": 4, "sizes": [3] * 4, "frequencies": [[0.2, 0.3, 0.5]] * 4}
TINY: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2, "sampling_steps": 2, "m": 2, "k": 3}
TINY |= {"encoder_width": 8, "encoder_depth": 1}
SCALE, FREE = 1.5, 2.0
CODES = torch.tensor([[0, 2], [1, 1], [2, 0]])
HANDED: dict[str, dict[str, float]] = {
    "nothing": {"self_conditioning": 0.0},
    "estimate": {"self_conditioning": 0.5},
    "momentum": {"self_conditioning": 0.5, "momentum": 0.4},
    "self-guided": {"self_conditioning": 0.5, "self_guidance": 3.0},
}


class Linear(nn.Module):
    """A guide that says the sum of what a state has in each place, times some numbers."""

    def __init__(self, diffusion: Any, features: int) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.slope = Rng(9).normal((features,))

    def predict(self, x: Tensor, t: Tensor, cond: object = None) -> GuideOutput:
        mean = (x * self.slope.to(x)).flatten(1).sum(1, keepdim=True)
        return GuideOutput(mean, torch.ones_like(mean), mean)

    def grad(self, x: Tensor) -> Tensor:
        """Of numbers the slope; of classes, what another class would add."""
        if x.is_floating_point():
            return self.slope.expand(x.shape)
        return self.slope[: self.diffusion.num_classes] - self.slope[x][..., None]


RECORD: Any = SimpleNamespace(
    names=("y",),
    labels={"lowest": (0.0,), "highest": (1.0,), "deviation": (1.0,)},
    options=SimpleNamespace(noisiest=1.0),
)


class Heard(nn.Module):
    """What a solver asks of a denoiser, and what it is told."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, list[tuple[Any, ...]]()

    def forward(self, x, t, cond=None, carry=None, rng=None):
        prediction, carry = self.inner(x, t, cond, carry, rng)
        self.calls.append((x, t, dict(cond or {}), prediction))
        return prediction, carry


def built(kind: Any, base: str, free: float, **options: Any) -> tuple[Any, Any, Linear]:
    """A recipe whose rows are told codes, its parts, and a guide."""
    recipe = kind(**TINY, **options, state="latent", latent_base=base, code_guidance=free)
    with Rng(0).torch():
        parts = recipe.build(FACTS)
    with torch.no_grad():  # untrained, they say nothing of codes and estimates
        for i, parameter in enumerate(parts.denoiser.parameters()):
            parameter += 0.3 * Rng(1).fold("shake", i).normal(parameter.shape)
    space = parts.diffusion
    classes = isinstance(space, CategoricalDiffusion)
    one = parts.codec.encode(torch.zeros(1, 4, dtype=torch.int64))
    return recipe, parts, Linear(space, space.width if classes else one.shape[-1])


def by_hand(core: Any, guide: Linear, free: float, scale: float) -> Any:
    """The function f of this file's first lines."""

    def f(x: Tensor, t: Tensor, cond: dict[str, Any], estimate: Tensor | None) -> Prediction:
        cond = cond if estimate is None else {**cond, "estimate": estimate}
        said, _ = core(x, t, cond)
        if free != 1:
            bare, _ = core(x, t, {name: v for name, v in cond.items() if name != "codes"})
            if x.is_floating_point():
                said = Prediction(bare.mean + free * (said.mean - bare.mean))
            else:
                said = mixed(x, ((free, said), (1 - free, bare)))
        return guide.diffusion.tilt(said, bounded(scale * guide.grad(x), x, t), x, t)

    def bounded(pull: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """No estimate of numbers moves by more than three deviations an entry."""
        if not x.is_floating_point():
            return pull
        alpha, sigma = guide.diffusion.schedule(align(t, x))
        moved = (pull * sigma.square() / alpha).flatten(1).norm(dim=1) / x[0].numel() ** 0.5
        share = (3 / moved.clamp_min(1e-12)).clamp_max(1)
        return pull * share.reshape(-1, *(1,) * (x.ndim - 1))

    return f


def check(recipe: Any, calls: list[tuple[Any, ...]], f: Any) -> None:
    """That all calls of a drawing say what the formula does, with what it hands on."""
    estimate = torch.zeros_like(calls[0][0]) if recipe.share else None
    for x, t, cond, found in calls:
        if recipe.self_guidance:
            null = torch.zeros_like(x)
            first = f(x, t, cond, null)
            second = f(x, t, cond, first.mean)
            w = recipe.self_guidance
            if x.is_floating_point():
                expected = torch.lerp(first.mean, second.mean, w)
            else:
                expected = mixed(x, ((w, second), (1 - w, first))).mean
        else:
            expected = f(x, t, cond, estimate).mean
            if estimate is not None:
                before = estimate if estimate.shape == expected.shape else 0 * expected
                estimate = torch.lerp(expected, before, recipe.momentum)
        torch.testing.assert_close(found.mean, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        *((Sequences, b) for b in ("masked", "uniform", "marginal", "bits", "onehot", "embedding")),
        *itertools.product((Text, Tables), ("masked", "bits")),
    ],
)
@torch.no_grad()
def test_all_combinations_are_one_function_of_the_estimate(kind: Any, base: str) -> None:
    numbers = base in ("bits", "onehot", "embedding")
    ways = ("tilt", "nudge") if numbers else ("tilt",)
    cases = itertools.product(HANDED, (1.0, FREE), (0.0, SCALE), ways, (0, 1) if numbers else (0,))
    for handed, free, scale, way, corrector in cases:
        recipe, parts, guide = built(kind, base, free, **HANDED[handed])
        # The steering is made for a recipe that can be guided, of the same states.
        run: Any = SimpleNamespace(recipe=Sequences(state=base), diffusion=parts.diffusion)
        options = Guiding(scale=scale, way=way, corrector=corrector, guide_begin=1.0)
        steer = steering_of(run, guide, [RECORD], options)
        heard = list[Heard]()

        def watched(denoiser: Any, solver: Any, steer: Any = steer, heard: Any = heard) -> Any:
            denoiser, solver = steer(denoiser, solver)
            heard.append(Heard(denoiser))
            return heard[0], solver

        given = {"row": torch.arange(3), "codes": CODES}
        list(recipe.draw(replace(parts, steering=watched), FACTS, given, Rng(2).samples(3)))
        modules = parts.denoiser.modules()
        (core,) = (m for m in modules if isinstance(m, ClassDenoiser | CodeDenoiser))
        (denoiser,) = heard
        assert len(denoiser.calls) == 2 * (1 + corrector), (handed, free, way)
        tilted = scale if way == "tilt" else 0.0
        check(recipe, denoiser.calls, by_hand(core, guide, free, tilted))
        if scale and (numbers or handed != "nothing"):  # a check that sees the guide at all
            with pytest.raises(AssertionError):
                check(recipe, denoiser.calls, by_hand(core, guide, free, SCALE - tilted))
