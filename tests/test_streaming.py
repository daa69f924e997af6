"""Streams against the pyramid over the whole length, and against the law of a Markov chain.

With a clean token beside what moves, the exact denoiser of a chain needs no more than a window: a
stream is then what one long `sample` makes, draw by draw, and its law is the pyramid's, whose error
is known without a draw.
"""

import gc
import itertools
import math

import pytest
import torch
from oracles import F64, Chain, Correlated
from test_categorical import Exact, every, kinds, made, pushed
from torch import nn

from noiseloom import (
    Bits,
    Cosine,
    GaussianDiffusion,
    LinearGamma,
    OneHot,
    Prediction,
    Rng,
    SamplingPlan,
    SelfConditioned,
    dpm_solver_pp_2m,
    stream,
)
from noiseloom.rollouts import along, keys_of
from noiseloom.sampling import final, sample
from noiseloom.tokens import ramp_times

MOVES = [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.7, 0.1, 0.2]]
CYCLE = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
STATES = ("bits", "onehot", "embedding", "absorbing", "uniform", "marginal")
SMOOTH = GaussianDiffusion(LinearGamma(clip=0.0))


def chain(state, moves=MOVES):
    tables = {
        "bits": Bits(3).table,
        "onehot": OneHot(3).table,
        "embedding": Rng(5).normal((3, 4)),
    }
    if state in tables:
        return Chain(SMOOTH, moves, tables[state].double())
    return Chain(made(state), moves)


def nothing(exact, batch):
    if exact.codes is None:
        return torch.zeros(batch, 0, dtype=torch.int64)
    return torch.zeros(batch, 0, exact.codes.shape[1], dtype=F64)


def classes(exact, x):
    if exact.codes is None:
        return x
    return (x[..., None, :] - exact.codes).square().sum(-1).argmin(-1)


def take(count, exact, context, steps, *, rng=None, **options):
    """The first `count` tokens, (B, count, ...)."""
    keys = Rng(3).samples(len(context)) if rng is None else rng
    plan = SamplingPlan.uniform(steps)
    pieces, n = [], 0
    for piece in stream(exact, exact.diffusion, plan, context, rng=keys, **options):
        assert piece.position == options.get("position", 0) + context.shape[1] + n
        assert piece.carry == {}
        pieces.append(piece.x)
        n += piece.x.shape[1]
        if n >= count:
            return torch.cat(pieces, 1)[:, :count]


@pytest.mark.parametrize("state", ["absorbing", "uniform", "marginal"])
def test_the_chain_is_exact(state):
    exact = chain(state)
    joint = exact.joint(3)
    states = every(exact.diffusion.width, 3)
    for t in (torch.tensor([[0.2, 0.5, 0.9]]), torch.tensor(0.4)):
        by_messages = exact(states, t.reshape(1, -1).expand(1, 3).double())[0].mean
        brute = Exact(exact.diffusion, joint)(states, t.double())[0].mean
        able = (brute - 1 / 3).abs().amax((1, 2)) > 1e-9  # states that can be
        torch.testing.assert_close(by_messages[able], brute[able], rtol=0, atol=1e-5)


@pytest.mark.parametrize("slope", [0.5, 1, 1.7, 3, 6])
@pytest.mark.parametrize("state", STATES)
def test_a_stream_is_the_pyramid_over_the_whole_length(state, slope):
    exact, steps, count = chain(state), 6, 20
    ramp = math.ceil(steps / slope)
    found = take(count, exact, nothing(exact, 4), steps, window=ramp + 1, slope=slope)
    total = count + ramp + 1  # what is begun later is seen by none of them
    empty = nothing(exact, 4)
    keys = Rng(keys_of(Rng(3).samples(4), 0, total, empty))
    noise = exact.diffusion.prior(empty.new_empty(4, total, *empty.shape[2:]), keys.fold("prior"))
    plan = SamplingPlan.pyramid(steps, total, slope)
    steps = sample(exact, exact.diffusion, plan, noise, rng=keys.fold("sampling"))
    right = final(steps).result[:, :count]
    if exact.codes is None:
        assert torch.equal(found, right)
        assert len(found.unique()) == 3
    else:
        torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


def test_a_gaussian_process_streams_as_its_pyramid():
    def process(tokens):
        place = torch.arange(tokens, dtype=F64)
        exact = Correlated(SMOOTH.schedule, 0.8 ** (place[:, None] - place).abs())
        exact.diffusion = SMOOTH
        return exact

    empty = torch.zeros(2, 0, 1, dtype=F64)
    found = take(12, process(5), empty, 8, window=5, slope=2)
    keys = Rng(keys_of(Rng(3).samples(2), 0, 17, empty))
    noise = SMOOTH.prior(empty.new_empty(2, 17, 1), keys.fold("prior"))
    plan = SamplingPlan.pyramid(8, 17, 2)
    steps = sample(process(17), SMOOTH, plan, noise, rng=keys.fold("sampling"))
    torch.testing.assert_close(found, final(steps).x[:, :12], rtol=0, atol=1e-5)


def error(kind, steps, slope, tokens=3):
    """Total variation between the law of the pyramid and the chain's, without a draw."""
    diffusion = made(kind)
    data = Chain(diffusion, MOVES).joint(tokens)
    plan = SamplingPlan.pyramid(steps, tokens, slope)
    law = pushed(Exact(diffusion, data), diffusion, plan, tokens)
    law = law.reshape((diffusion.width,) * tokens)[(slice(3),) * tokens]
    return float((law - data).abs().sum() / 2)


@kinds
def test_the_law_is_the_chains_with_more_rows_of_a_token(kind):
    # At a fixed share of rows per token, so many tokens on the ramp: of order 1 in the rows.
    errors = {
        share: [error(kind, steps, steps * share) for steps in (8, 16, 32)] for share in (0.25, 0.5)
    }
    for found in errors.values():
        assert 0.8 < math.log2(found[1] / found[2]) < 1.2, errors
        assert found[2] < 0.02, errors
    # Fewer tokens move together on a steeper ramp, and disagree less; one by one none disagree.
    assert errors[0.5][2] < errors[0.25][2]
    if kind == "absorbing":
        assert error(kind, 4, 4) < 1e-6


@pytest.mark.parametrize("state", STATES)
def test_far_from_its_beginning_a_stream_still_has_the_law(state):
    exact, batch, steps = chain(state), 256, 32
    text = take(60, exact, nothing(exact, batch), steps, window=6, slope=8)
    pairs = classes(exact, text)[:, 20:].unfold(1, 2, 1).flatten(0, 1)
    n = len(pairs)
    share = torch.bincount(pairs[:, 0] * 3 + pairs[:, 1], minlength=9).double().reshape(3, 3) / n
    apart = (share - exact.joint(2)).abs().sum() / 2
    # What so many dependent draws are off by, and what 32 rows of a token are (the test above).
    assert float(apart) < 0.02 + 3 / math.sqrt(n)


@pytest.mark.parametrize("state", STATES)
def test_a_prompt_is_followed(state):
    exact = chain(state, CYCLE)
    prompt = torch.tensor([[0, 1, 2, 0, 1], [2, 0, 1, 2, 0]])
    context = prompt if exact.codes is None else exact.codes[prompt]
    text = classes(exact, take(9, exact, context, 8, window=5, slope=2))
    assert text.tolist() == [[(row[-1] + 1 + i) % 3 for i in range(9)] for row in prompt.tolist()]


@pytest.mark.parametrize("state", STATES)
def test_draws_are_those_of_a_token_however_it_is_asked_for(state):
    exact = chain(state)
    whole = take(12, exact, nothing(exact, 4), 5, window=4, slope=5)
    # Token by token nothing is under way, and who goes on from what was yielded goes on the same.
    rest = take(5, exact, whole[:, :7], 5, window=4, slope=5)
    torch.testing.assert_close(rest, whole[:, 7:])
    late = take(5, exact, whole[:, 4:7], 5, window=4, slope=5, position=4)
    torch.testing.assert_close(late, whole[:, 7:])
    # A row of a batch is the row alone.
    joint = take(12, exact, nothing(exact, 4), 6, window=5, slope=2)
    alone = take(12, exact, nothing(exact, 1), 6, window=5, slope=2, rng=Rng(3).samples(1, 2))
    torch.testing.assert_close(alone[0], joint[2])
    # And what is asked for in pieces is what is asked for at once.
    pieces = stream(exact, exact.diffusion, SamplingPlan.uniform(6), nothing(exact, 4),
                    window=5, slope=2, rng=Rng(3).samples(4))  # fmt: skip
    first, then = (torch.cat([p.x for p in itertools.islice(pieces, 6)], 1) for _ in range(2))
    assert torch.equal(torch.cat((first, then), 1), joint)


class Spy(nn.Module):
    """Says half of what it sees, and keeps what it saw."""

    def __init__(self, diffusion=SMOOTH):
        super().__init__()
        self.diffusion, self.calls = diffusion, []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.calls.append((x, t, cond))
        return Prediction(x / 2), carry or {}


@pytest.mark.parametrize(
    ("slope", "moving"), [(0.5, 16), (1, 8), (3, 3), (2.5, 4), (8, 1), (99, 1)]
)
def test_the_cost_is_stated(slope, moving):
    spy, window, slow = Spy(), moving + 3, min(slope, 8)
    context = torch.zeros(2, 0, 1)
    pieces = stream(spy, SMOOTH, SamplingPlan.uniform(8), context, window=window, slope=slope,
                    rng=Rng(0))  # fmt: skip
    n = 0
    for piece in itertools.islice(pieces, 30):
        n += piece.x.shape[1]
        assert len(spy.calls) == 8 + int((n - 1) * slow)
    assert all(x.shape == (2, window, 1) for x, _, _ in spy.calls)
    # In the end the window is full: what was finished, what moves, and nothing else.
    for _, t, _ in spy.calls[-5:]:
        assert (t.diff(dim=1) >= 0).all()
        assert 3 <= int((t == 0).sum()) <= window - 1
        assert int((t > 0).sum()) <= moving
    with pytest.raises(ValueError, match="do not fit a window"):
        stream(
            spy, SMOOTH, SamplingPlan.uniform(8), context, window=moving, slope=slope, rng=Rng(0)
        )


def test_memory_does_not_grow():
    def held():
        gc.collect()
        found = (o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))
        return sum(tensor.numel() for tensor in found)

    exact = chain("absorbing")
    pieces = stream(SelfConditioned(Silent()), exact.diffusion, SamplingPlan.uniform(4),
                    nothing(exact, 2), window=6, slope=1, rng=Rng(0))  # fmt: skip
    sizes = []
    for piece in itertools.islice(pieces, 300):
        if piece.position in (20, 299):
            sizes.append(held())
    assert sizes[1] <= sizes[0]


class Silent(nn.Module):
    """Knows nothing of three classes."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        return Prediction(torch.full((*x.shape, 3), 1 / 3)), carry or {}


def test_estimates_and_conditions_move_with_the_window():
    spy, actions = Spy(), torch.arange(60.0).expand(2, 60)
    denoiser = SelfConditioned(spy)
    pieces = stream(denoiser, SMOOTH, SamplingPlan.uniform(4), Rng(1).normal((2, 5, 1)), window=6,
                    slope=1, cond=along(action=actions), rng=Rng(0))  # fmt: skip
    list(itertools.islice(pieces, 12))
    moved = 0
    for (x, _, before), (_, _, now) in itertools.pairwise(spy.calls):
        gone = int(now["action"][0, 0] - before["action"][0, 0])
        moved += gone
        assert now["action"][0].diff().tolist() == [1.0] * 5
        own, rest = now["estimate"][:, : 6 - gone], now["estimate"][:, 6 - gone :]
        assert torch.equal(own, x[:, gone:] / 2)
        assert not rest.any()
    assert moved == 11


def test_what_is_finished_is_settled_and_rests():
    spy, level = Spy(), 0.2
    pieces = stream(spy, SMOOTH, SamplingPlan.uniform(4), torch.ones(2, 3, 1), window=7, slope=1,
                    settle=lambda x: x.sign(), stabilisation=level, rng=Rng(0))  # fmt: skip
    text = torch.cat([torch.ones(2, 3, 1), *(p.x for p in itertools.islice(pieces, 15))], 1)
    assert (text.abs() == 1).all()
    alpha, sigma = SMOOTH.schedule(torch.tensor(level))
    keys = Rng(keys_of(Rng(0).samples(2), 0, 18, text))
    rested = alpha * text + sigma * keys.fold("stabilisation").normal_like(text)
    first = 0
    for x, t, _ in spy.calls:
        resting = int((t < level + 1e-6).sum())
        assert float(t.min()) == pytest.approx(level)
        while first < 15 and not torch.allclose(x[:, :resting], rested[:, first : first + resting]):
            first += 1
        assert resting >= 3
        assert first < 15


def test_a_plan_may_overshoot():
    exact = chain("bits")
    plan = SamplingPlan.uniform(6).overshoot(1.0)
    pieces = stream(exact, SMOOTH, plan, nothing(exact, 2), window=5, slope=2, rng=Rng(3))
    found = torch.cat([p.x for p in itertools.islice(pieces, 8)], 1)
    whole = SamplingPlan.pyramid(6, 12, 2).overshoot(1.0)
    empty = nothing(exact, 2)
    keys = Rng(keys_of(Rng(3).samples(2), 0, 12, empty))
    noise = SMOOTH.prior(empty.new_empty(2, 12, 2), keys.fold("prior"))
    right = final(sample(exact, SMOOTH, whole, noise, rng=keys.fold("sampling"))).result[:, :8]
    torch.testing.assert_close(found, right, rtol=0, atol=1e-5)


def test_windows_of_ramp_times_are_those_of_streams():
    t = ramp_times((2000, 12), Rng(0).samples(2000))
    assert torch.equal(ramp_times((3, 12), Rng(0).samples(3, 7)), t[7:10])
    assert float(t.min()) == 0
    assert float(t.max()) == 1
    assert (t.diff(dim=1) >= 0).all()
    assert (t > 0).any(1).all()
    inside = (t[:, :-1] > 0) & (t[:, 1:] < 1)
    rises = [row.diff()[i] for row, i in zip(t, inside, strict=True) if i.sum() > 1]
    assert all(float(r.max() - r.min()) < 1e-5 for r in rises)
    # Rows of a pyramid are of this form: r = S / u tokens on the way, a = (m - S) / u.
    plan = SamplingPlan.pyramid(8, 12, 2)
    for m, row in enumerate(plan.t[:, 0]):
        right = ((torch.arange(12) - (m - 8) / 2) / 4).clamp(0, 1)
        torch.testing.assert_close(row, right.double())


class Counting(nn.Module):
    """Hands on what is of no token."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        return Prediction(x), {"count": torch.zeros(len(x), 1)}


def test_what_does_not_fit():
    plan, empty, words = SamplingPlan.uniform(4), torch.zeros(2, 0, 1), chain("uniform").diffusion

    def begun(denoiser=None, diffusion=SMOOTH, plan=plan, context=empty, **options):
        options = {"window": 6, "slope": 1, "rng": Rng(0)} | options
        return stream(denoiser or Spy(), diffusion, plan, context, **options)

    causal = Spy()
    causal.causal = True
    half = SamplingPlan.from_times(torch.tensor([1.0, 0.5]))
    for make, kind, told in (
        (lambda: begun(slope=0), ValueError, "a slope > 0"),
        (lambda: begun(slope=math.nan), ValueError, "a slope > 0"),
        (lambda: begun(slope="1"), TypeError, r"a slope > 0 in rows per token, got '1'"),
        (lambda: begun(rng=7), TypeError, r"by a key: give rng, such as Rng\(0\), not 7"),
        (lambda: begun(rng=None), TypeError, r"by a key: give rng, such as Rng\(0\), not None"),
        (lambda: begun(window=5.5), TypeError, r"window is a number of tokens, got 5\.5"),
        (lambda: begun(position=0.5), TypeError, r"position is a number of tokens, got 0\.5"),
        (lambda: begun(window=4), ValueError, "do not fit a window of 4"),
        (lambda: begun(stabilisation=1.0), ValueError, "a stabilisation in"),
        (lambda: begun(position=-1), ValueError, "a position >= 0"),
        (lambda: begun(plan=SamplingPlan.pyramid(4, 6, 1)), ValueError, "in scalar times"),
        (lambda: begun(plan=half), ValueError, "from 1 to 0"),
        (lambda: begun(causal), ValueError, "use rollout"),
        (lambda: begun(context=torch.full((2, 1, 1), math.inf)), ValueError, "not finite"),
        (lambda: begun(context=torch.zeros(2, 1, dtype=torch.int64)), TypeError, "encoded state"),
        (lambda: begun(diffusion=words), TypeError, "of integers"),
        (
            lambda: begun(diffusion=words, context=torch.full((2, 1), 3)),
            ValueError,
            r"classes are 0 .. 2, got 3 to 3",
        ),
        (lambda: next(begun(solver=dpm_solver_pp_2m())), TypeError, r"such as ancestral\(\)"),
        (lambda: list(itertools.islice(begun(Counting(), window=5), 9)), ValueError, "not of them"),
    ):
        with pytest.raises(kind, match=told):
            make()


def test_the_schedule_may_leave_a_rest_of_noise():
    exact = Chain(GaussianDiffusion(Cosine()), CYCLE, Bits(3).table.double())
    text = classes(exact, take(9, exact, nothing(exact, 3), 8, window=6, slope=2))
    assert ((text.diff(dim=1) - 1) % 3 == 0).all()
