"""Beam search, and rows that are written token by token, against all rows there are."""

from itertools import product

import pytest
import torch
from torch import nn

from noiseloom import Rng
from noiseloom.beam import beam_search
from noiseloom.nets import CausalTransformer
from noiseloom.next_token import NextToken, Writing

K, T, END = 3, 4, 2


def model(reads=False):
    with Rng(0).torch():
        network = CausalTransformer(K + 1, K, width=16, depth=2, heads=2, window=T, reads=reads)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.4)
    return NextToken(network.double(), K).eval()


def told(count):
    return {"source": Rng(1).normal((count, 3, 2 * 16 * 2), torch.float64)}


def all_rows():
    return torch.tensor(list(product(range(K), repeat=T)))


def laws(one, cond, scale):
    """ln p of all rows (N,) by laws of tokens that guidance mixes, without a cache."""
    rows = all_rows()
    expanded = {n: v.expand(len(rows), -1, -1) for n, v in cond.items()}
    logs = one.conditionals(rows, cond=expanded)
    if scale != 1:
        logs = (scale * logs + (1 - scale) * one.conditionals(rows)).log_softmax(-1)
    return rows, logs.gather(-1, rows[..., None])[..., 0]


@pytest.mark.parametrize("scale", [1.0, 0.0, 2.5])
@pytest.mark.parametrize("end", [None, END])
def test_with_enough_beams_the_search_is_exhaustive(scale, end):
    one, cond = model(reads=True), told(4)
    writing = Writing(one, cond, scale=scale, drop=("source",))
    rows, score = beam_search(writing, 4, T, K**T, end=end)
    for i in range(4):
        every, logs = laws(one, {n: v[i : i + 1] for n, v in cond.items()}, scale)
        if end is not None:  # what comes after the end is the end, and costs nothing
            after = (every == end).cumsum(1) - (every == end).long() > 0
            ends = torch.where(after, every == end, True).all(1)
            every, logs = every[ends], torch.where(after[ends], 0.0, logs[ends])
        best = logs.sum(1).argmax()
        assert torch.equal(rows[i], every[best])
        torch.testing.assert_close(score[i], logs.sum(1)[best].double(), rtol=1e-5, atol=1e-5)


def test_one_beam_is_greedy_and_more_find_no_less():
    one, cond = model(reads=True), told(16)
    keys = Rng(2).samples(16)
    greedy = one.sample(T, keys, temperature=0.0, writing=Writing(one, cond), end=END)
    rows, score = beam_search(Writing(one, cond), 16, T, 1, end=END)
    assert torch.equal(rows, greedy)
    before = score
    for beams in (2, 4, 8, 81):
        _, score = beam_search(Writing(one, cond), 16, T, beams, end=END)
        last = score
        assert (last >= before - 1e-12).double().mean() > 0.7  # a wider search may lose a row
    assert (last >= before - 1e-12).all()  # but none to the exhaustive one


def test_the_cache_changes_nothing():
    one, cond = model(reads=True), told(5)
    rows = Rng(3).integers(K, (5, T))
    writing, said = Writing(one, cond), []
    writing.begin(5)
    before = torch.cat((torch.full((5, 1), K), rows[:, :-1]), 1)
    for i in range(T):
        said.append(writing.next(before[:, i : i + 1]).log_softmax(-1))
    torch.testing.assert_close(torch.stack(said, 1), one.conditionals(rows, cond=cond))


def test_guidance_at_one_is_none_and_at_zero_tells_nothing():
    one, cond, keys = model(reads=True), told(64), Rng(4).samples(64)

    def drawn(**options):
        return one.sample(T, keys, writing=Writing(one, **options))

    plain = drawn(cond=cond)
    assert torch.equal(drawn(cond=cond, scale=1.0, drop=("source",)), plain)
    nothing = drawn(cond=cond, scale=0.0, drop=("source",))
    assert torch.equal(nothing, one.sample(T, keys))
    assert not torch.equal(nothing, plain)
    for scale, calls in ((1.0, 1), (0.0, 1), (3.0, 2)):
        assert len(Writing(one, cond, scale=scale, drop=("source",)).sides) == calls


def test_draws_of_guided_tokens_have_the_law_that_is_said():
    one, cond, count = model(reads=True), told(1), 20_000
    wide = {n: v.expand(count, -1, -1) for n, v in cond.items()}
    writing = Writing(one, wide, scale=2.0, drop=("source",))
    drawn = one.sample(T, Rng(5).samples(count), writing=writing)
    _, logs = laws(one, cond, 2.0)
    p = logs.sum(1).exp()
    place = (drawn * K ** torch.arange(T - 1, -1, -1)).sum(1)
    share = torch.bincount(place, minlength=K**T).double() / count
    assert ((share - p).abs() < 5 * (p * (1 - p) / count).sqrt() + 1e-9).all()


def test_nothing_is_asked_after_the_end():
    one, calls = model(), []
    one.network.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():  # the end is all but certain
        one.network.trunk.output.bias[END] += 100
    drawn = one.sample(T, Rng(0).samples(6), end=END)
    assert (drawn == END).all()
    assert len(calls) == 1
    rows, score = beam_search(Writing(one), 6, T, 1, end=END)
    assert (rows == END).all()
    assert len(calls) == 2
    torch.testing.assert_close(score, torch.zeros(6, dtype=torch.float64))


def test_what_cannot_be_searched_is_refused():
    one = model()
    with pytest.raises(ValueError, match="at least one beam"):
        beam_search(Writing(one), 1, T, 0)
    with torch.no_grad():
        one.network.trunk.output.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="not numbers"):
        beam_search(Writing(one), 1, T, 2)
