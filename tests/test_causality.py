"""Joint plans on causal denoisers are warned of, once, wherever samples are drawn."""

import warnings

import pytest
import torch
from torch import nn

from noiseloom import (
    ClassifierFree,
    Clipped,
    Cosine,
    GaussianDiffusion,
    MonteCarloGuided,
    PartsPlan,
    Preconditioned,
    ProductDiffusion,
    Rng,
    SamplingPlan,
    SelfConditioned,
    final,
    rollout,
    sample,
)
from noiseloom.causality import is_causal, said
from noiseloom.nets import CausalTransformer, Recurrent, Transformer, VideoTransformer, VideoUNet

DIFFUSION = GaussianDiffusion(Cosine())
T, D = 3, 2
TOLD = r"biased, however many .* off by 0\.40 .* use an autoregressive plan"


def denoiser(causal=True, wrap=lambda inner: inner):
    options = {"width": 8, "depth": 1, "heads": 2, "num_classes": 2, "self_conditioning": True}
    kind, length = (CausalTransformer, "window") if causal else (Transformer, "max_length")
    return wrap(Preconditioned(kind(D, D, **options, **{length: T}), Cosine()).eval())


def draw(model, plan, tokens=T):
    x = Rng(0).normal((2, tokens, D))
    cond = {"label": torch.tensor([0, 1])}
    return final(sample(model, DIFFUSION, plan, x, cond=cond, rng=Rng(1)))


WRAPPERS = {
    "plain": lambda inner: inner,
    "guided": lambda inner: SelfConditioned(Clipped(ClassifierFree(inner, 2.0), 3.0)),
    "monte carlo": lambda inner: MonteCarloGuided(
        inner,
        DIFFUSION,
        lambda x: x.sum((1, 2)),
        futures=2,
        plan=SamplingPlan.autoregressive(2, T),
    ),
}
JOINT = {
    "full-sequence": SamplingPlan.full_sequence(2, T),
    "pyramid": SamplingPlan.pyramid(2, T, 1),
    "one time": SamplingPlan.uniform(2),
    "one row": SamplingPlan.full_sequence(1, T),
    "two left": SamplingPlan.full_sequence(2, T).hold([0]),
    "rested too early": SamplingPlan.autoregressive(2, T).rest(0.3),
    "at the end": SamplingPlan.from_levels([[1, 1, 1], [0, 1, 1], [0, 0, 0]], 1),
}
ALONE = {
    "autoregressive": SamplingPlan.autoregressive(2, T),
    "rested": SamplingPlan.autoregressive(2, T).rest(0.1),
    "held": SamplingPlan.full_sequence(2, T).hold([0, 1]),
    "rested and held": SamplingPlan.autoregressive(2, T).rest(0.1).hold([0], 0.02),
    "each sample its own": SamplingPlan.from_times(
        torch.stack((torch.eye(T)[:2], torch.zeros(2, T)))
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("plan", JOINT)
def test_joint_plans_on_causal_networks_are_warned_of_once(plan, wrap):
    with pytest.warns(UserWarning, match=TOLD) as told:
        draw(denoiser(wrap=WRAPPERS[wrap]), JOINT[plan])
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.parametrize("plan", ALONE)
def test_plans_that_move_one_token_at_a_time_are_not(plan):
    draw(denoiser(), ALONE[plan])


@pytest.mark.parametrize("plan", JOINT)
def test_networks_that_see_all_tokens_are_not_warned_of(plan):
    draw(denoiser(causal=False), JOINT[plan])


def test_one_token_at_one_time_is_not_warned_of():
    draw(denoiser(), SamplingPlan.uniform(2), tokens=1)


def test_compiled_code_and_rows_by_themselves_are_not_warned_of():
    model, x = denoiser(), Rng(0).normal((2, T, D))
    plan = SamplingPlan.uniform(2)
    final(sample(model, DIFFUSION, plan.rows(x), x, rng=Rng(1)))

    def end(x):
        return final(sample(model, DIFFUSION, plan, x, rng=Rng(1))).x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.compile(end, backend="eager")(x)


@pytest.mark.parametrize(
    ("completion", "tokens", "warned"),
    [("full-sequence", T, True), ("one time", T, True), ("one time", 1, False)],
)
def test_joint_completions_of_futures_are_warned_of_once(completion, tokens, warned):
    guide = MonteCarloGuided(
        denoiser(), DIFFUSION, lambda x: x.sum((1, 2)), futures=2, plan=JOINT[completion]
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plan = SamplingPlan.autoregressive(2, tokens)
        x = Rng(0).normal((2, tokens, D))
        for _ in range(2):
            final(sample(guide, DIFFUSION, plan, x, rng=Rng(1).samples(2)))
    assert [str(one.message)[:9] for one in told] == ["this plan"] * warned
    # Where all but one token are certain, the completion moves one.
    guide._watched = True
    now = torch.tensor([[0.0, 0.0, 0.7]])[:, :tokens]
    guide(x, now, rng=Rng(0))


def test_a_rollout_says_the_same_once():
    with pytest.warns(UserWarning, match=TOLD) as told:
        next(
            rollout(
                denoiser(),
                DIFFUSION,
                SamplingPlan.full_sequence(2, T),
                torch.zeros(2, 1, D),
                memory=T - 1,
                chunk=T,
                rng=Rng(0),
            )
        )
    assert len(told) == 1


def test_what_is_causal():
    assert all(k.causal for k in (CausalTransformer, Recurrent, VideoTransformer, VideoUNet))
    assert not is_causal(denoiser(causal=False))
    assert not is_causal(lambda *_: None)

    class Encoded(nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.encoder = nn.Linear(1, 1), nn.Module()
            self.encoder.causal = True

    assert not is_causal(Encoded())
    assert said(denoiser(), "memory") == [T - 1]


class InParts(nn.Module):
    """Each part by itself, by a network that is causal or not."""

    def __init__(self, causal):
        super().__init__()
        self.inner = denoiser(causal)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        return {name: self.inner(part, t[name])[0] for name, part in x.items()}, {}


def test_plans_of_parts_are_warned_of_by_the_plan_of_a_part():
    both, alone = (
        ProductDiffusion({"a": DIFFUSION, "b": DIFFUSION}),
        SamplingPlan.autoregressive(2, T),
    )
    x = {name: Rng(0).normal((2, T, D)) for name in "ab"}

    def drawn(model, plan):
        return final(sample(model, both, plan, x, rng=Rng(1)))

    joint = PartsPlan.beside({"a": alone, "b": SamplingPlan.full_sequence(2, T)})
    with pytest.warns(UserWarning, match=TOLD) as told:
        drawn(InParts(True), joint)
    assert len(told) == 1
    assert told[0].filename == __file__
    drawn(InParts(False), joint)
    drawn(InParts(True), PartsPlan.beside({"a": alone, "b": alone}))
    still = PartsPlan.beside({"a": alone, "b": SamplingPlan.uniform(2)}).hold("b")
    drawn(InParts(True), still)  # what is held moves nothing
