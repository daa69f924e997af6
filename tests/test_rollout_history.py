"""History guidance in rollouts: each branch remembers the past as it is shown to it.

The reference is one pass over the whole history per branch, with the past under the branch's view.
Laws of what is sampled are in `test_rollout_history_law`.
"""

import itertools

import pytest
import torch
from oracles import F64
from test_rollout import DIFFUSION, LEVEL, SCHEDULE, SHAPES, B, Counted, build, conditions, leaves
from torch import nn

from noiseloom import (
    ClassifierFree,
    Clipped,
    HistoryGuided,
    HistoryTerm,
    Preconditioned,
    Prediction,
    RewardGuided,
    Rng,
    SamplingPlan,
    SelfConditioned,
    SelfGuided,
    ancestral,
    fractional_history,
    heun,
    rollout,
    temporal_history,
    vanilla_history,
)
from noiseloom.sampling import final, sample

BLUR, FAINT = 0.5, LEVEL / 2  # FAINT, and LEVEL itself, blur nothing that is read at LEVEL
VIEWS = {
    "unconditional": (vanilla_history(0.0), [(1.0, 1.0)]),
    "vanilla": (vanilla_history(1.8), [(1.0, -0.8), (0.0, 1.8)]),
    "fractional": (fractional_history(1.8, BLUR), [(1.0, -0.8), (0.0, 1.0), (BLUR, 0.8)]),
    "blurred": ([HistoryTerm(1.0, level=BLUR)], [(BLUR, 1.0)]),
    "faint": (fractional_history(1.8, FAINT), [(1.0, -0.8), (0.0, 1.0), (FAINT, 0.8)]),
    "as it is read": ([HistoryTerm(1.0, level=LEVEL)], [(LEVEL, 1.0)]),
}
"""Terms, and the branches that they mean: (level, weight), at level 1 noise alone."""


def guided(inner, name="vanilla"):
    return HistoryGuided(inner, DIFFUSION, VIEWS[name][0])


def plain(inner, name="vanilla"):
    return guided(inner, name)


def shared(inner, name="vanilla"):
    """One estimate for all branches, of the guided mean."""
    return SelfConditioned(guided(classes(inner), name), limit=2.0)


def apart(inner, name="vanilla"):
    """Each branch has its own estimate."""
    return guided(SelfConditioned(inner, limit=2.0), name)


def classes(inner):
    return Clipped(ClassifierFree(inner, 1.7), 3.0)


def twice(inner, name="vanilla"):
    return SelfGuided(guided(inner, name), 2.0, limit=2.0)


INNER = {plain: lambda inner: inner, shared: classes, apart: lambda inner: inner}
KINDS = pytest.mark.parametrize("kind", SHAPES)


class Whole:
    """The reference: every branch a pass over all there has been, as it shows it, without cache."""

    def __init__(self, inner, branches, rng, each, wrap):
        self.inner, self.branches, self.rng, self.each, self.wrap = inner, branches, rng, each, wrap
        self.seen = [[] for _ in branches]  # (state, time, estimate) of what was finished

    def denoise(self, x, t, cond=None, carry=None, rng=None):
        """The guided mean of the newest tokens, and the estimates of each branch."""
        zero, means = torch.zeros_like(x), []
        estimates = (carry or {}).get("estimates", [zero] * len(self.branches))
        now = torch.zeros(1, x.shape[1], dtype=x.dtype) + t
        for past, estimate in zip(self.seen, estimates, strict=True):
            state, times, known = (
                torch.cat(parts, 1) for parts in zip(*past, (x, now, estimate), strict=True)
            )
            given = self.each(0, state.shape[1])
            if self.wrap is not plain:
                given = {**given, "estimate": known}
            prediction, _ = self.inner(state, times, given)
            means.append(prediction.mean[:, -x.shape[1] :])
        mean = sum(w * m for (_, w), m in zip(self.branches, means, strict=True))
        own = means if self.wrap is apart else [mean] * len(means)
        return Prediction(mean), {"estimates": [m.clamp(-2, 2) for m in own]}

    def write(self, x, start, carry):
        keys = self.rng.each("token", torch.arange(start, start + x.shape[1]))
        level = torch.tensor(LEVEL, dtype=x.dtype)
        noisy = DIFFUSION.corrupt(x, level, keys.fold("stabilisation"))
        own = keys.fold("write").fold("history")
        estimates = carry.get("estimates", [torch.zeros_like(x)] * len(self.branches))
        for (shown, _), past, estimate in zip(self.branches, self.seen, estimates, strict=True):
            told = torch.tensor(max(shown, LEVEL), dtype=x.dtype)
            if shown == 1:
                seen = DIFFUSION.prior(x, own)
            else:
                seen = DIFFUSION.renoise(noisy, level, told, own) if shown > LEVEL else noisy
            # An estimate would say what the view hides.
            kept = torch.zeros_like(estimate) if shown > LEVEL else estimate
            past.append((seen, told.expand(1, x.shape[1]), kept))

    @torch.no_grad()
    def run(self, plan, context, chunk, chunks, solver):
        """What a rollout should yield."""
        start, found = context.shape[1], []
        if start:
            self.write(context, 0, {})
        for _ in range(chunks):
            draws = self.rng.each("token", torch.arange(start, start + chunk))
            empty = context.new_empty((B, chunk, *context.shape[2:]))
            x, keys = DIFFUSION.prior(empty, draws.fold("prior")), draws.fold("sampling")
            last = final(sample(self.denoise, DIFFUSION, plan, x, rng=keys, solver=solver))
            self.write(last.x, start, last.carry)
            found.append(last.x)
            start += chunk
        return torch.cat(found, 1)


SETTINGS = [(4, 1, 3, ancestral()), (3, 3, 2, ancestral(1.0)), (2, 1, 0, heun())]
CASES = [
    *itertools.product(("transformer", "recurrent"), SETTINGS),
    ("video", SETTINGS[0]),
    ("unet", SETTINGS[1]),
]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("wrap", INNER)
@pytest.mark.parametrize(("kind", "setting"), CASES)
@pytest.mark.parametrize(("dtype", "limit"), [(F64, 1e-10), (torch.float32, 1e-5)])
def test_a_guided_rollout_is_a_pass_per_branch_over_the_whole_history(
    kind, setting, wrap, name, dtype, limit
):
    window, chunk, n, solver = setting
    network = build(kind, window, dtype)
    inner = Preconditioned(network, SCHEDULE)
    context, rng = Rng(3).normal((B, n, *SHAPES[kind]), dtype), Rng(4).samples(B)
    plan = SamplingPlan.uniform(3) if chunk == 1 else SamplingPlan.autoregressive(3, chunk)
    chunks = 8 if chunk == 1 else 3  # beyond any of the windows
    each = conditions(n + chunk * chunks, dtype)
    settings = {"chunk": chunk, "stabilisation": LEVEL, "cond": each, "rng": rng, "solver": solver}
    steps = rollout(wrap(inner, name), DIFFUSION, plan, context, **settings)
    x = torch.cat([step.x for step in itertools.islice(steps, chunks)], 1)
    whole = Whole(INNER[wrap](inner), VIEWS[name][1], rng, each, wrap)
    expected = whole.run(plan, context, chunk, chunks, solver)
    assert expected.std() > 0.1
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(x, expected, rtol=0, atol=limit * scale)


def made(denoiser, kind, count=6, n=2, dtype=F64, **options):
    """The first steps of a rollout."""
    context = Rng(3).normal((B, n, *SHAPES[kind]), dtype)
    options = {"cond": conditions(30, dtype), "rng": Rng(4), "stabilisation": LEVEL, **options}
    plan = SamplingPlan.uniform(3)
    return list(itertools.islice(rollout(denoiser, DIFFUSION, plan, context, **options), count))


def test_tokens_of_several_times_are_blurred_where_a_view_is_noisier():
    told = []

    class Told(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append((x, t[0, :, 0].tolist(), cond["estimate"][0, :, 0].tolist()))
            return Prediction(x), {}

    x = Rng(0).normal((B, 3, 1), F64)
    given = {"position": torch.tensor(0), "write": True, "estimate": torch.ones_like(x)}
    terms = [HistoryTerm(1.0, level=BLUR)]
    times = torch.tensor([[LEVEL, BLUR, 0.9]], dtype=F64)
    HistoryGuided(Told(), DIFFUSION, terms)(x, times, given, rng=Rng(0))
    ((seen, shown, estimate),) = told
    assert (shown, estimate) == ([BLUR, BLUR, 0.9], [0, 1, 1])
    assert (seen != x).any(0).flatten().tolist() == [True, False, False]


@KINDS
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("wrap", [plain, shared, apart, twice])
def test_a_token_is_read_by_each_branch_once_per_step_and_once_to_be_remembered(kind, name, wrap):
    counted = Counted(build(kind))
    steps, n, tokens = 3, 2, 9
    found = made(wrap(Preconditioned(counted, SCHEDULE), name), kind, tokens, n)
    branches = len(VIEWS[name][1]) * (2 if wrap in (shared, twice) else 1)
    assert counted.tokens == branches * (n + tokens * (steps + 1))
    sizes = {sum(leaf.numel() for leaf in leaves(step.carry)) for step in found[3:]}
    assert len(sizes) == 1  # memory is constant


@KINDS
@pytest.mark.parametrize("wrap", [plain, shared, apart, twice])
@pytest.mark.parametrize("terms", [vanilla_history(1.0), fractional_history(1.0, BLUR)])
def test_a_scale_of_1_is_no_guidance_bit_for_bit(kind, wrap, terms, monkeypatch):
    network = build(kind)
    monkeypatch.setitem(VIEWS, "none", (terms, [(0.0, 1.0)]))
    x = made(wrap(Preconditioned(network, SCHEDULE), "none"), kind)
    monkeypatch.setitem(globals(), "guided", lambda inner, name: inner)
    for a, b in zip(x, made(wrap(Preconditioned(network, SCHEDULE), "none"), kind), strict=True):
        assert torch.equal(a.x, b.x)


@KINDS
@pytest.mark.parametrize("wrap", [plain, shared, apart, twice])
def test_a_guided_rollout_goes_on_where_it_was_left(kind, wrap):
    denoiser = wrap(Preconditioned(build(kind), SCHEDULE), "fractional")
    whole = made(denoiser, kind, 8, 5)
    mid = whole[4]
    settings = {"carry": mid.carry, "position": mid.position + 1}
    for a, b in zip(whole[5:], made(denoiser, kind, 3, 0, **settings), strict=True):
        assert a.position == b.position
        assert torch.equal(a.x, b.x)


@pytest.mark.parametrize("rewarding", [False, True])
def test_guidance_by_rewards_goes_around_it(rewarding):
    """It is asked about moves, and not about what is remembered, by any branch."""
    asked = []

    def reward(x):
        asked.append(len(x))
        return -(x[:, -1] - 3.0).square().flatten(1).sum(1)

    counted = Counted(build("transformer"))
    guide = guided(Preconditioned(counted, SCHEDULE))
    wrapped = RewardGuided(guide, DIFFUSION, reward, 0.1, begin=0.9) if rewarding else guide
    x = torch.cat([step.x for step in made(wrapped, "transformer")], 1)
    assert counted.tokens == 2 * (2 + 6 * 4)
    assert len(asked) == (6 * 3 if rewarding else 0)
    plain = torch.cat([step.x for step in made(guide, "transformer")], 1)
    assert torch.equal(x, plain) != rewarding


def test_what_cannot_be_shown_is_said_in_one_line():
    inner = Preconditioned(build("transformer"), SCHEDULE)
    for terms in (temporal_history([[0, 1]], [2.0]), [HistoryTerm(1.0, (3,), 0.5)]):
        with pytest.raises(ValueError, match="a rollout's history is shown as a whole"):
            HistoryGuided(inner, DIFFUSION, terms)
    for history in ([0, 1], slice(-1)):
        guide = HistoryGuided(inner, DIFFUSION, vanilla_history(2.0), history=history)
        with pytest.raises(ValueError, match="what its caches hold: leave history out"):
            made(guide, "transformer")
    guide = HistoryGuided(inner, DIFFUSION, vanilla_history(2.0))
    x, t = Rng(0).normal((B, 4, *SHAPES["transformer"]), F64), torch.tensor(0.5)
    with pytest.raises(ValueError, match="which tokens are history"):
        guide(x, t, rng=Rng(0))
    told = {"position": torch.tensor(0), "write": True}
    with pytest.raises(ValueError, match="give rng"):
        guide(x, t, told)
