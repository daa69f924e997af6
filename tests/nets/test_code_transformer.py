"""The causal transformer over codes: causality, its cache, its class."""

import pytest
import torch

from noiseloom.carry import append_tokens
from noiseloom.nets.code_transformer import CodeTransformer
from noiseloom.rng import Rng

M, K = 5, 4
SIZES = {"width": 16, "depth": 3, "heads": 2}


def network(**options):
    """With weights that say something."""
    net = CodeTransformer(M, K, **{**SIZES, **options})
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.3 * Rng(0).fold("parameter", i).normal(p.shape))
    return net.eval()


def codes(batch=3):
    return Rng(1).integers(K, (batch, M - 1))


def test_it_is_uniform_at_initialisation():
    assert not CodeTransformer(M, K, **SIZES)(codes()).any()


def test_a_logit_does_not_change_with_the_codes_that_it_is_not_given():
    net, z = network(), codes()
    whole = net(z)
    for i in range(M - 1):
        other = z.clone()
        other[:, i:] = (other[:, i:] + 1) % K
        there = net(other)
        assert torch.equal(there[:, : i + 1], whole[:, : i + 1])  # z_i is given from i + 1 on
        assert (there[:, i + 1] - whole[:, i + 1]).abs().amin() > 0


def test_every_position_has_an_alphabet_of_its_own():
    net = network(depth=1)  # which sees a set: without them, the order would be lost on it
    a, b = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[1, 0, 2, 3]])
    assert not torch.allclose(net(a)[:, -1], net(b)[:, -1])


@pytest.mark.parametrize("parts", [[0, 1, 2, 3, 4], [2, 4], [0, 3, 4], [4]])
def test_what_is_read_from_the_cache_is_what_one_pass_says(parts):
    net, z = network(num_classes=3), codes()
    label = torch.tensor([0, 2, 3])
    said, cache = [], {}
    for known in parts:
        y, new = net(z[:, :known], {"label": label, "cache": cache})
        cache = append_tokens(cache, new)
        said.append(y)
    torch.testing.assert_close(torch.cat(said, 1), net(z, {"label": label}), atol=1e-5, rtol=1e-5)
    assert cache["tokens"][0]["keys"].shape == (3, M, 2, 8)


def test_a_token_is_read_once():
    net, z, read, cache = network(), codes(), [], {}
    net.token.register_forward_hook(lambda _, args, __: read.append(args[0].shape[1]))
    for i in range(M):
        _, new = net(z[:, :i], {"cache": cache})
        cache = append_tokens(cache, new)
    assert read == [1] * (2 * M)  # the token, and the start, which modulates


def test_a_class_matters_and_its_absence_is_the_null_class():
    net, z = network(num_classes=3), codes()
    none, three = net(z), net(z, {"label": torch.full((3,), 3)})
    assert torch.equal(none, three)
    assert not torch.allclose(none[:, 0], net(z, {"label": torch.zeros(3).long()})[:, 0])


def test_dropout_follows_the_keys():
    net, z = network(dropout=0.5).train(), codes()
    keys = Rng(0).samples(3).key
    whole = net(z, {"dropout": keys})
    torch.testing.assert_close(net(z[1:], {"dropout": keys[1:]}), whole[1:])
    assert not torch.allclose(net(z, {"dropout": keys + 1}), whole)
    with pytest.raises(ValueError, match=r"call \.eval"):
        net(z)


def test_wrong_shapes_are_refused():
    net = network()
    with pytest.raises(ValueError, match=r"shape \(3, 5\): expected \(B, c\) with c at most 4"):
        net(torch.zeros(3, 5, dtype=torch.int64))
    _, cache = network(depth=2)(codes(), {"cache": {}})
    with pytest.raises(ValueError, match="a cache of 2 blocks for a network of 3"):
        net(codes(), {"cache": cache})


@pytest.mark.parametrize("size", [{"width": 0}, {"width": -8}, {"depth": 0}, {"heads": 0}])
def test_sizes_are_above_0(size):
    with pytest.raises(ValueError, match="width, depth and heads must be above 0, got"):
        CodeTransformer(3, 5, **{"width": 8, "depth": 1, "heads": 2, **size})
