"""Transformers that read what stands beside their tokens."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from noiseloom import Rng
from noiseloom.carry import append_tokens
from noiseloom.nets import CausalTransformer, PictureTokens, SourceKeys, Transformer
from noiseloom.nets.reading import ReadingBlock
from noiseloom.nets.trunk import norm

WIDTH, DEPTH, PLACES = 16, 2, 3
COMMON = {"width": WIDTH, "depth": DEPTH, "heads": 2, "reads": True}


def felt(make):
    """A network none of whose branches is silent."""
    with Rng(0).torch():
        network = make()
        for module in network.trunk.silent:
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.3)
    return network.double()


def causal(**more):
    return felt(lambda: CausalTransformer(5, 4, window=6, **COMMON, **more))


def bidirectional(**more):
    return felt(lambda: Transformer(5, 4, max_length=6, rotary=True, **COMMON, **more))


def state(batch=3, tokens=6):
    return Rng(1).normal((batch, tokens, 5), torch.float64)


def source(batch=3):
    return Rng(2).normal((batch, PLACES, 2 * WIDTH * DEPTH), torch.float64)


def snr(x):
    return torch.zeros(len(x), dtype=torch.float64)


@pytest.mark.parametrize("make", [causal, bidirectional])
def test_a_source_of_zeros_is_none_in_each_row(make):
    network, x, told = make(), state(), source()
    told[1] = 0
    said = network(x, snr(x), {"source": told})
    without = network(x, snr(x))
    assert torch.equal(said[1], without[1])
    assert not torch.allclose(said[0], without[0], atol=1e-3)
    # What it reads has no order, and is read by every token.
    torch.testing.assert_close(network(x, snr(x), {"source": told.flip(1)}), said)
    assert ((said[0] - without[0]).abs().amax(-1) > 1e-6).all()


def test_a_block_is_its_formula():
    with Rng(3).torch():
        block = ReadingBlock(WIDTH, 2, 0.0, 1).double()
    h, told = Rng(4).normal((2, 5, WIDTH), torch.float64), source(2)
    parts = Rng(5).normal((2, 1, 9 * WIDTH), torch.float64)
    said, _ = block(h, parts, None, told)
    shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = parts.chunk(9, -1)
    h = h + gate1 * block.attention(norm(h) * (1 + scale1) + shift1)
    q = block.query(norm(h) * (1 + scale2) + shift2).unflatten(-1, (2, -1))
    own = told[..., 2 * WIDTH : 4 * WIDTH]  # of the second block
    k, v = (part.unflatten(-1, (2, -1)) for part in own.chunk(2, -1))
    scores = torch.einsum("bthd,bnhd->bhtn", q, k) / math.sqrt(WIDTH / 2)
    weights = functional.pad(scores, (0, 1)).softmax(-1)[..., :-1]  # one key of nothing
    found = torch.einsum("bhtn,bnhd->bthd", weights, v).flatten(2)
    h = h + gate2 * block.out(found)
    h = h + gate3 * block.mlp(norm(h) * (1 + scale3) + shift3)
    torch.testing.assert_close(said, h)


def test_one_reads_all_of_the_source_but_no_later_token():
    network, x, told = causal(), state(), source()
    said = network(x, snr(x), {"source": told})
    later = x.clone()
    later[:, 4:] += 1
    changed = network(later, snr(x), {"source": told})
    assert torch.equal(changed[:, :4], said[:, :4])
    assert not torch.allclose(changed[:, 4:], said[:, 4:])
    both = bidirectional()
    moved = both(later, snr(x), {"source": told}) - both(x, snr(x), {"source": told})
    assert (moved.abs().amax(-1) > 1e-6).all()


def test_a_cache_knows_nothing_of_the_source():
    network, x, told = causal(), state(), source()
    whole = network(x, snr(x), {"source": told})
    cache, said = network.blank(x), []
    for i in range(x.shape[1]):
        cond = {"source": told, "cache": cache, "position": i}
        y, new = network(x[:, i : i + 1], snr(x), cond)
        cache = append_tokens(cache, new, network.memory)
        said.append(y)
    torch.testing.assert_close(torch.cat(said, 1), whole)


def test_the_two_differ_in_places_alone():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    assert count(bidirectional()) - count(causal()) == 6 * WIDTH  # learnt places, beside rotary


@pytest.mark.parametrize("shape", [(3, PLACES, 7), (2, PLACES, 64), (3, 64)])
def test_a_source_of_another_shape_is_refused(shape):
    for network in (causal(), bidirectional()):
        with pytest.raises(ValueError, match="as SourceKeys makes it"):
            network(state(), snr(state()), {"source": torch.zeros(shape, dtype=torch.float64)})


def test_one_that_reads_nothing_refuses_a_source():
    for network in (
        CausalTransformer(5, 4, window=6, width=8, depth=1, heads=2),
        Transformer(5, 4, max_length=6, width=8, depth=1, heads=2),
    ):
        with pytest.raises(ValueError, match="no condition 'source'"):
            network(state().float(), torch.zeros(3), {"source": source().float()})


def test_features_of_a_picture_are_of_its_patches():
    with Rng(6).torch():
        encoder = PictureTokens(3, patch=4, width=16, depth=0, heads=2)
        keys = SourceKeys(16, WIDTH, DEPTH)
    x = Rng(7).normal((2, 3, 8, 8))
    said = encoder(x)
    assert keys(said).shape == (2, 4, 2 * WIDTH * DEPTH)
    other = x.clone()
    other[:, :, 4:, :4] += 1  # the third patch in reading order
    moved = (encoder(other) - said).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [False, False, True, False]  # without blocks none sees another
    for wrong in ((2, 3, 8, 6), (2, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match="multiples of the patch"):
            encoder(torch.zeros(wrong))


def test_dropout_of_a_row_is_its_own():
    with Rng(8).torch():
        network = CausalTransformer(5, 4, window=6, dropout=0.3, **COMMON)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    x, told = state().float(), source().float()
    keys = torch.tensor([5, 6, 7])
    said = network(x, torch.zeros(3), {"source": told, "dropout": keys})
    one = network(x[1:2], torch.zeros(1), {"source": told[1:2], "dropout": keys[1:2]})
    torch.testing.assert_close(one[0], said[1])
    assert not torch.allclose(
        network(x, torch.zeros(3), {"source": told, "dropout": keys + 1}), said
    )
