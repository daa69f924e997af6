"""Classifier-free guidance (its meeting with self-conditioning: test_conditioning)."""

import pytest
import torch
from oracles import F64, Gaussian
from torch import nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.diffusion import GaussianDiffusion, Prediction
from noiseloom.guidance import ClassifierFree
from noiseloom.noise import SCHEDULES, Cosine
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import final, sample


class Labelled(nn.Module):
    """N(c, v) for label c, N(0, w) without one; counts calls, and in the carry its own."""

    def __init__(self, schedule, v=0.5, w=1.5):
        super().__init__()
        self.schedule, self.v, self.w = schedule, v, w
        self.given = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append(dict(cond or {}))
        label = (cond or {}).get("label")
        law = (
            Gaussian(self.schedule, self.w)
            if label is None
            else Gaussian(self.schedule, self.v, label)
        )
        count = carry["count"]["n"] if carry else torch.zeros(len(x))
        return law(x, t)[0], {"count": {"n": count + (10 if label is None else 1)}}


COND = {"label": 0.7, "text": torch.ones(3)}


def x(*shape):
    return Rng(0).normal(shape or (3, 2), F64)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 4.0])
def test_scale_1_is_conditional_and_0_is_not(scale):
    t, inner = torch.tensor(0.4, dtype=F64), Labelled(Cosine())
    with_ = inner(x(), t, COND)[0].mean
    without = inner(x(), t, {})[0].mean
    inner.given.clear()
    got = ClassifierFree(inner, scale)(x(), t, COND)[0].mean
    torch.testing.assert_close(got, without + scale * (with_ - without))
    if scale in (0, 1):
        assert torch.equal(got, with_ if scale else without)
    assert len(inner.given) == (1 if scale in (0, 1) else 2)
    assert all(given["text"] is COND["text"] for given in inner.given)
    assert ["label" in given for given in inner.given] == (
        [scale == 1] if scale in (0, 1) else [False, True]
    )


def test_the_dropped_conditions_are_named():
    inner = Labelled(Cosine())
    ClassifierFree(inner, 2.0, drop=("text",))(x(), torch.tensor(0.4), COND)
    assert [sorted(given) for given in inner.given] == [["label"], ["label", "text"]]
    for name in ("estimate", "hidden"):
        with pytest.raises(ValueError, match="SelfGuided"):
            ClassifierFree(inner, 2.0, drop=(name,))
    # Nothing to drop: both calls agree, and guidance does nothing.
    a = ClassifierFree(inner, 5.0)(x(), torch.tensor(0.4), None)[0].mean
    torch.testing.assert_close(a, inner(x(), torch.tensor(0.4))[0].mean)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_guided_samples_of_gaussians_follow_the_exact_flow(schedule):
    """The guided mean is linear in x, so the flow of one dimension is: mean and deviation."""
    d, scale, plan = GaussianDiffusion(schedule), 2.0, SamplingPlan.uniform(20)
    start = x(50, 1)
    guided = ClassifierFree(Labelled(schedule), scale)
    got = final(sample(guided, d, plan, start, cond={"label": 0.7}, rng=Rng(0))).x
    gain, shift = 1.0, 0.0
    for t, s in zip(plan.t, plan.s, strict=True):
        (a, sd), (a_s, sd_s) = schedule(t), schedule(s)
        k = [a * v / (a * a * v + sd * sd) for v in (1.5, 0.5)]
        slope = k[0] + scale * (k[1] - k[0])
        offset = scale * 0.7 * (1 - k[1] * a)
        move = sd_s / sd + (a_s - sd_s * a / sd) * slope
        shift = move * shift + (a_s - sd_s * a / sd) * offset
        gain = gain * move
    torch.testing.assert_close(got, gain * start + shift, rtol=1e-8, atol=1e-8)


def test_each_branch_has_a_carry_of_its_own_and_guides_nest():
    inner = Labelled(Cosine())
    t, guide = torch.tensor(0.4, dtype=F64), ClassifierFree(inner, 2.0)
    carry = None
    for _ in range(3):
        _, carry = guide(x(), t, COND, carry)
    assert carry["classifier_free"]["with"]["count"]["n"].tolist() == [3] * 3
    assert carry["classifier_free"]["without"]["count"]["n"].tolist() == [30] * 3
    outer = ClassifierFree(guide, 3.0, drop=("text",))
    inner.given.clear()
    carry = None
    for _ in range(2):
        _, carry = outer(x(), t, COND, carry)
    assert len(inner.given) == 8
    assert sorted(map(len, inner.given)) == [0, 0, 1, 1, 1, 1, 2, 2]
    leaf = carry["classifier_free"]["with"]["classifier_free"]["without"]["count"]["n"]
    assert leaf.tolist() == [20] * 3


def test_rows_of_a_batch_do_not_meet():
    guide = SelfConditioned(ClassifierFree(Labelled(Cosine()), 3.0))
    d, plan, start = GaussianDiffusion(), SamplingPlan.uniform(5), x(6, 2)
    whole = final(sample(guide, d, plan, start, cond={"label": 0.7}, rng=Rng(0))).x
    part = final(sample(guide, d, plan, start[2:4], cond={"label": 0.7}, rng=Rng(0))).x
    torch.testing.assert_close(whole[2:4], part)


def test_a_guided_prediction_is_a_mean_alone():
    """Logits of one branch would contradict the guided mean."""

    class Sure(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            return Prediction(x, logits=x), {}

    assert ClassifierFree(Sure(), 2.0)(x(), torch.tensor(0.5))[0].logits is None
    assert ClassifierFree(Sure(), 1.0)(x(), torch.tensor(0.5))[0].logits is not None
