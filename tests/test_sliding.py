"""Windows that slide: one window is ordinary sampling, and the known part has the window's time."""

import itertools

import pytest
import torch
from oracles import F64, Correlated
from recorded import capture

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    LinearGamma,
    Prediction,
    Rng,
    SamplingPlan,
    replay,
)
from noiseloom.rollouts import along
from noiseloom.sampling import final, sample
from noiseloom.sliding import slide

DIFFUSION = GaussianDiffusion(Cosine())
PLAN = SamplingPlan.uniform(5)


class Spy(torch.nn.Module):
    """Says half of what it sees, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.calls.append((x, t, cond))
        return Prediction(x / 2), carry or {}


def take(count, context, spy, **options):
    rng = Rng(3).samples(len(context))
    steps = slide(spy, DIFFUSION, PLAN, context, rng=rng, **options)
    return list(itertools.islice(steps, count))


def test_a_window_that_is_all_new_is_ordinary_sampling():
    (made,) = take(1, torch.zeros(2, 0, 3), Spy(), window=4, chunk=4)
    keys = Rng(Rng(3).samples(2).each("token", torch.arange(4)).key)
    noise = DIFFUSION.prior(torch.empty(2, 4, 3), keys.fold("prior"))
    right = final(sample(Spy(), DIFFUSION, PLAN, noise, rng=keys.fold("sampling"))).x
    torch.testing.assert_close(made.x, right)
    assert made.position == 0


def test_the_known_have_the_time_of_the_new_but_not_less_than_stabilisation():
    spy, context = Spy(), Rng(0).normal((2, 2, 3))
    actions = torch.arange(20.0).expand(2, 20)
    options = {"window": 4, "chunk": 1, "stabilisation": 0.3, "cond": along(action=actions)}
    chunks = take(4, context, spy, **options)
    assert [chunk.position for chunk in chunks] == [2, 3, 4, 5]
    whole = torch.cat((context, *(chunk.x for chunk in chunks)), 1)
    for i, (x, t, cond) in enumerate(spy.calls):
        chunk, row = divmod(i, 5)
        new = 2 + chunk
        first = max(new - 3, 0)
        assert cond["action"][0].tolist() == list(map(float, range(first, new + 1)))
        time = float(PLAN.t[row])
        assert float(t[0, -1]) == pytest.approx(time)
        assert t[0, :-1].tolist() == pytest.approx([max(time, 0.3)] * (new - first))
        alpha, sigma = Cosine()(t[0, 0])
        noise = (x[:, :-1] - alpha * whole[:, first:new]) / sigma
        # Drawn once per token, and not the noise that the token was made from.
        keys = Rng(3).samples(2).each("token", torch.arange(first, new)).key
        own = Rng(keys).fold("stabilisation").normal_like(noise)
        torch.testing.assert_close(noise, own, rtol=1e-3, atol=1e-3)
    assert len(spy.calls) == 4 * 5


def test_what_is_known_is_put_in_anew_each_time_that_a_row_is_made():
    spy, context = Spy(), Rng(0).normal((2, 2, 3))
    take(1, context, spy, window=4, chunk=2, rounds=3)
    assert len(spy.calls) == 3 * 5
    for row in range(5):
        rounds = [x for x, _, _ in spy.calls[3 * row : 3 * row + 3]]
        for x in rounds[1:]:
            assert torch.equal(x[:, :2], rounds[0][:, :2])
            assert not torch.equal(x[:, 2:], rounds[0][:, 2:])


def test_check_13_6_replacement_is_not_a_clean_context():
    """With its context held at time 0 the exact denoiser follows it by the law; a window does not.

    A noised copy of what is known says less than itself, and what was made from it is not mended:
    the response to the context is too small, however many the steps.
    """
    n, size, schedule = 3, 6, LinearGamma(clip=0.0)
    law = 0.8 ** (torch.arange(size, dtype=F64)[:, None] - torch.arange(size)).abs()
    exact, diffusion = Correlated(schedule, law), GaussianDiffusion(schedule)
    right = torch.linalg.solve(law[:n, :n], law[:n, n:]).T
    contexts = torch.cat((torch.zeros(n, 1, dtype=F64), torch.eye(n, dtype=F64)), 1)[None]
    for steps in (50, 200):
        plan = SamplingPlan.uniform(steps)
        # Draws are one per token: columns share them, and differences are the response.
        keys = Rng(0).samples(1 + n)
        keys = keys.rows(torch.zeros(1 + n, dtype=torch.int64))
        apart = contexts.permute(2, 1, 0)  # (1 + n, n, 1)
        slid = next(slide(exact, diffusion, plan, apart, window=size, chunk=size - n, rng=keys)).x
        held = SamplingPlan.full_sequence(steps, size).hold(range(n))
        x = torch.cat((apart, Rng(1).normal((1, size - n, 1), F64).expand(1 + n, -1, -1)), 1)
        clean = final(sample(exact, diffusion, held, x, rng=Rng(0))).x[:, n:]
        replaced, followed = ((v[1:] - v[:1])[..., 0].T for v in (slid, clean))
        assert float((followed - right).abs().max()) < 4 / steps
        assert float((right - replaced)[0, -1]) > 0.2


def test_a_recorded_window_is_the_same(monkeypatch):
    monkeypatch.setitem(replay._CAPTURES, "cpu", capture)
    context = Rng(0).normal((2, 2, 3))
    plain, recorded = (
        take(6, context, Spy(), window=4, chunk=2, stabilisation=0.1, graph=graph)
        for graph in (False, True)
    )
    for one, other in zip(plain, recorded, strict=True):
        assert torch.equal(one.x, other.x)


def test_what_does_not_fit():
    for options, told in (
        ({"window": 2, "chunk": 3}, "a chunk of 1 .. window"),
        ({"window": 2, "chunk": 1, "stabilisation": 1.0}, "a stabilisation in"),
    ):
        with pytest.raises(ValueError, match=told):
            take(1, torch.zeros(1, 1, 3), Spy(), **options)
    plan = SamplingPlan.autoregressive(2, 2)
    with pytest.raises(ValueError, match="one time for all"):
        slide(Spy(), DIFFUSION, plan, torch.zeros(1, 1, 3), window=2, chunk=2, rng=Rng(0))
    for context, plan, told in (
        (torch.full((1, 1, 3), torch.inf), PLAN, "not finite"),
        (torch.zeros(1, 1, 3), SamplingPlan.from_times(torch.tensor([1.0, 0.5])), "from 1 to 0"),
    ):
        with pytest.raises(ValueError, match=told):
            next(slide(Spy(), DIFFUSION, plan, context, window=2, chunk=2, rng=Rng(0)))
