"""Monte Carlo guidance in a rollout: each future reads the past from the cache of its sample.

The reference is the same guidance without a cache: the prediction and its futures are passes over
all there has been.
"""

import itertools

import pytest
import torch
from oracles import F64
from test_rollout import DIFFUSION, LEVEL, SCHEDULE, B, D, build, conditions, nearer
from torch import nn

from noiseloom import (
    MonteCarloGuided,
    Preconditioned,
    Prediction,
    Rng,
    SamplingPlan,
    SelfConditioned,
    rollout,
)
from noiseloom.sampling import final, sample


class Whole(nn.Module):
    """A denoiser that reads the whole history anew, once for each future."""

    def __init__(self, inner, each, rng, told):
        super().__init__()
        self.inner, self.each, self.rng, self.told = inner, each, rng, told
        self.seen, self.estimates = [], []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        past, known = (torch.cat(parts, 1) for parts in (self.seen, self.estimates))
        futures, n = len(x) // B, past.shape[1]
        state = torch.cat((past.repeat_interleave(futures, 0), x), 1)
        times = torch.full(state.shape[:2], LEVEL, dtype=x.dtype)
        times[:, n:] = t[..., 0] if t.ndim == 3 else t
        given = {
            name: v.repeat_interleave(futures, 0)
            for name, v in self.each(0, n + x.shape[1]).items()
        }
        if self.told:
            given["estimate"] = torch.cat(
                (known.repeat_interleave(futures, 0), cond["estimate"]), 1
            )
        prediction, _ = self.inner(state, times, given)
        return Prediction(prediction.mean[:, n:]), dict(carry or {})

    def write(self, x, start, estimate=None):
        keys = self.rng.each("token", torch.arange(start, start + x.shape[1]))
        level = torch.tensor(LEVEL, dtype=x.dtype)
        self.seen.append(DIFFUSION.corrupt(x, level, keys.fold("stabilisation")))
        self.estimates.append(torch.zeros_like(x) if estimate is None else estimate)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("window", "chunk"), [(4, 1), (3, 3)])
@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_a_rollout_led_by_futures_is_the_pass_over_the_whole_history(kind, window, chunk, told):
    inner = Preconditioned(build(kind, window), SCHEDULE)

    def made(steps):
        return (
            SamplingPlan.uniform(steps) if chunk == 1 else SamplingPlan.autoregressive(steps, chunk)
        )

    def guide(denoiser):
        options = {"futures": 3, "plan": made(2), "begin": 0.9}
        led = MonteCarloGuided(denoiser, DIFFUSION, nearer, 0.3, **options)
        return SelfConditioned(led) if told else led

    chunks, plan = 8 if chunk == 1 else 3, made(3)  # beyond the window
    context, rng, each = Rng(3).normal((B, 3, D), F64), Rng(4).samples(B), conditions(12)
    settings = {"chunk": chunk, "stabilisation": LEVEL, "cond": each, "rng": rng}
    steps = rollout(guide(inner), DIFFUSION, plan, context, **settings)
    whole, start = Whole(inner, each, rng, told), context.shape[1]
    with torch.no_grad():
        whole.write(context, 0)
        for step in itertools.islice(steps, chunks):
            draws = rng.each("token", torch.arange(start, start + chunk))
            noise = DIFFUSION.prior(torch.empty(B, chunk, D, dtype=F64), draws.fold("prior"))
            keys = draws.fold("sampling")
            last = final(sample(guide(whole), DIFFUSION, plan, noise, rng=keys))
            torch.testing.assert_close(step.x, last.x, rtol=0, atol=1e-10)
            whole.write(last.x, start, last.carry.get("self_conditioning", {}).get("estimate"))
            start += chunk
