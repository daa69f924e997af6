import math

import pytest
import torch

from noiseloom import rng as rng_module
from noiseloom.rng import Rng


def test_a_key_draws_the_same_numbers_for_ever():
    # Oracle: splitmix64 written with Python integers.
    mask = 2**64 - 1

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    for key in (0, 1, -1, 123456789, -(2**63), 2**63 - 1):
        words = [mix(mix((key + 0x9E3779B97F4A7C15 * j) & mask)) for j in range(1, 6)]
        expected = [(w >> 16) % 1000 for w in words]
        assert Rng(key).integers(1000, (5,)).tolist() == expected
        first, second = words[0] >> 40, words[0] & 0xFFFFFF
        radius = math.sqrt(-2 * math.log(first * 2**-24 + 2**-25))
        angle = 2 * math.pi * second * 2**-24
        pair = [radius * math.cos(angle), radius * math.sin(angle)]
        torch.testing.assert_close(Rng(key).normal((2,)), torch.tensor(pair), rtol=0, atol=2e-6)


def test_longer_draws_start_with_shorter_ones_and_types_only_round():
    for i, n in enumerate((1, 2, 3, 7, 64)):
        rng = Rng(7).fold("size", i)
        long = rng.normal((n + 5,))
        assert torch.equal(long[:n], rng.normal((n,)))
        assert torch.equal(long.double(), rng.normal((n + 5,), torch.float64))
        assert torch.equal(rng.uniform((n + 5,))[:n], rng.uniform((n,)))
        assert torch.equal(rng.integers(9, (n + 5,))[:n], rng.integers(9, (n,)))


def test_a_sample_draws_the_same_alone_or_in_any_batch():
    whole = Rng(3).samples(100)
    for start, count in ((17, 1), (0, 5), (90, 10), (33, 7)):
        part = Rng(3).samples(count, start)
        rows = slice(start, start + count)
        for fold in (lambda r: r, lambda r: r.fold("step", 4).fold("move")):
            a, b = fold(whole), fold(part)
            assert torch.equal(a.normal((100, 3, 5))[rows], b.normal((count, 3, 5)))
            assert torch.equal(a.uniform((100, 3))[rows], b.uniform((count, 3)))
            assert torch.equal(a.integers(11, (100, 3))[rows], b.integers(11, (count, 3)))
    assert torch.equal(whole.rows(torch.tensor([17])).key, Rng(3).samples(1, 17).key)
    assert Rng(3).rows(torch.tensor([17])) == Rng(3)


def test_each_is_fold_for_every_index_and_keys_nest():
    for key in (0, 5, -9):
        each = Rng(key).each("token", torch.arange(6)).key
        assert each.tolist() == [Rng(key).fold("token", i).key for i in range(6)]
    grid = Rng(1).samples(4).each("token", torch.arange(3))
    assert grid.key.shape == (4, 3)
    alone = Rng(1).fold("sample", 2).fold("token", 1)
    assert torch.equal(grid.normal((4, 3, 5))[2, 1], alone.normal((5,)))


def test_a_fold_of_many_keys_waits_for_a_draw():
    keys = Rng(0).samples(6)
    folded = keys.fold("step", 3).fold("noise")
    assert folded.root is keys.root
    alone = Rng(0).samples(1, 4).fold("step", 3).fold("noise")
    assert torch.equal(folded.normal((6, 5))[4], alone.normal((1, 5))[0])
    assert torch.equal(folded.rows(torch.tensor([4])).normal((1, 5)), alone.normal((1, 5)))
    others = [keys, keys.fold("noise").fold("step", 3), keys.fold("step", 4).fold("noise")]
    others += [folded.fold("noise"), Rng(1).samples(6).fold("step", 3).fold("noise")]
    drawn = torch.stack([r.normal((6, 64)).flatten() for r in (folded, *others)])
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 6 / math.sqrt(6 * 64)


def test_streams_differ_by_name_index_and_seed():
    rngs = [Rng(s).fold(n, i) for s in range(10) for n in ("a", "b", "noise") for i in range(10)]
    draws = torch.stack([r.normal((64,)) for r in rngs])
    assert len({r.key for r in rngs}) == len(rngs)
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / math.sqrt(64)
    assert Rng(0).fold("a").fold("b").key != Rng(0).fold("b").fold("a").key


def test_uniforms_are_uniform_and_never_0_or_1():
    u = Rng(1).uniform((200_000,))
    n = len(u)
    # Odd multiples of 2^-24, exact in float32: so the largest is 1 - 2^-24, below 1.
    grid = u.double() * 2**24
    assert torch.equal(grid, grid.round())
    assert (grid.long() % 2 == 1).all()
    assert abs(float(u.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / n)
    counts = torch.histc(u, 100, 0, 1)
    chi2 = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert abs(float(chi2) - 99) < 5 * math.sqrt(2 * 99)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_uniforms_of_few_bits_are_never_0_or_1(name):
    dtype, whole = getattr(torch, name), Rng(1).uniform((200_000,))
    u = Rng(1).uniform((200_000,), dtype).double()
    rounded = whole.to(dtype).double()
    assert float(rounded.max()) == 1
    assert 0 < float(u.min()) < float(u.max()) < 1
    inside = (rounded > 0) & (rounded < 1)
    assert torch.equal(u[inside], rounded[inside])
    assert torch.equal(Rng(1).uniform((200_000,), torch.float64), whole.double())


def test_normals_are_normal():
    z = Rng(2).normal((400_000,)).double()
    n = len(z)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < 5 * math.sqrt(spread / n)
    assert abs(float((z[:-1] * z[1:]).mean())) < 5 / math.sqrt(n)
    assert abs(float((z[::2] * z[1::2]).mean())) < 5 / math.sqrt(n / 2)
    rows = Rng(2).samples(100_000).normal((100_000, 2)).double()
    assert abs(float((rows[:-1] * rows[1:]).mean())) < 5 / math.sqrt(2 * n / 4)


def test_integers_cover_their_range_evenly():
    for high in (1, 2, 7, 1000):
        k = Rng(4).integers(high, (50_000,))
        assert int(k.min()) == 0
        assert int(k.max()) == high - 1
        counts = torch.bincount(k, minlength=high).double()
        chi2 = float(((counts - 50_000 / high) ** 2 / (50_000 / high)).sum())
        assert abs(chi2 - (high - 1)) <= 5 * math.sqrt(2 * max(high - 1, 1))
    for high in (0, -1, 2**31 + 1):
        with pytest.raises(ValueError, match=f"got {high}"):
            Rng(4).integers(high, (1,))


def test_permutations_permute():
    orders = {tuple(Rng(0).fold("epoch", i).permutation(5).tolist()) for i in range(2000)}
    assert len(orders) == 120
    assert all(sorted(o) == list(range(5)) for o in orders)


def test_pytorchs_own_generator_is_seeded_and_restored():
    before = torch.get_rng_state()
    with Rng(5).torch():
        a = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with Rng(5).torch():
        assert torch.equal(a, torch.rand(3))
    with Rng(6).torch():
        assert not torch.equal(a, torch.rand(3))


def test_misuse_is_named():
    keys = Rng(0).samples(4)
    with pytest.raises(ValueError, match=r"\(4,\) cannot draw shape \(5, 2\)"):
        keys.normal((5, 2))
    with pytest.raises(TypeError, match="int64"):
        Rng(0).each("token", torch.zeros(3))
    with pytest.raises(TypeError, match="not per sample"):
        keys.permutation(3)
    with pytest.raises(TypeError, match="not per sample"), keys.torch():
        pass


@pytest.mark.parametrize("seed", [2**63, 10**20, -(2**70)])
def test_any_integer_is_a_seed(seed):
    small = (seed + 2**63) % 2**64 - 2**63
    assert torch.equal(Rng(seed).normal((3,)), Rng(small).normal((3,)))
    assert torch.equal(Rng(seed).permutation(5), Rng(small).permutation(5))


def test_compiled_draws_are_the_plain_ones_from_few_graphs(monkeypatch):
    # What a GPU does, with a compiler that runs anywhere: the same graphs, run op by op.
    keys = Rng(0).samples(6)
    several = keys.each("token", torch.arange(4))
    rngs = [
        Rng(3),
        keys,
        keys.fold("a"),
        several,
        several.fold("b", 2),
        Rng(1).samples(1).fold("c"),
    ]
    shapes = [(7, 3), (6, 3, 5), (6, 2), (6, 4, 3), (6, 4), (1, 9)]

    def draws():
        found = [rng.normal(shape) for rng, shape in zip(rngs, shapes, strict=True)]
        with torch.no_grad():
            found += [rng.uniform(shape) for rng, shape in zip(rngs, shapes, strict=True)]
        return [*found, *(rng.key for rng in rngs[1:])]

    expected, graphs = draws(), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(rng_module, "_BACKENDS", {"cpu": backend})
    for got, wanted in zip(draws(), expected, strict=True):
        assert torch.equal(got, wanted)
    # Beyond 8 of a function the compiler gives up: one row, one number, or several of each.
    per_function = len(graphs) / 3
    assert 0 < per_function <= 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_sample_draws_the_same_alone_or_in_any_batch_on_a_gpu():
    whole = Rng(3).samples(100, device="cuda").fold("noise")
    for start, count in ((17, 1), (0, 5), (33, 7)):
        part = Rng(3).samples(count, start, device="cuda").fold("noise")
        rows = slice(start, start + count)
        assert torch.equal(whole.normal((100, 3, 5))[rows], part.normal((count, 3, 5)))
        assert torch.equal(whole.uniform((100, 3))[rows], part.uniform((count, 3)))
    cpu = Rng(3).samples(100).fold("noise").normal((100, 3, 5))
    torch.testing.assert_close(whole.normal((100, 3, 5)).cpu(), cpu, rtol=0, atol=1e-6)
