import math

import pytest
import torch
from torch._dynamo.exc import Unsupported
from torch.nn import functional

from noiseloom.nets import MLP, CausalTransformer, DiT, Recurrent, Transformer, UNet
from noiseloom.nets.attention import Attention
from noiseloom.nets.layers import Dropout, Embedding, GroupNorm, fourier
from noiseloom.rng import Rng


def test_fourier_features_tell_every_log_snr_from_every_other():
    grid = torch.arange(-200, 201, dtype=torch.float64) / 10
    features = fourier(grid, 64, torch.float64)
    torch.testing.assert_close(features.square().sum(-1), torch.full((401,), 32.0).double())
    distance = torch.cdist(features, features) + 99 * torch.eye(401)
    assert distance.min() > 1  # a tenth of a nat moves the features, and no two ends meet


@pytest.mark.parametrize("channels", [4, 20, 64, 192])
@pytest.mark.parametrize("modulated", [False, True])
def test_group_norm_by_total_variance_is_group_norm(channels, modulated, monkeypatch):
    norm = GroupNorm(channels).double()
    with Rng(0).torch(), torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = 3 + 2 * Rng(2).normal((3, channels, 4, 6), torch.float64)
    x = (x * torch.arange(1, channels + 1)[:, None, None]).requires_grad_()  # unequal variances
    film = Rng(3).normal((3, 2 * channels), torch.float64) if modulated else None
    inputs = (x, norm.weight, norm.bias)

    eager = norm(x, film)
    expected = functional.group_norm(x, norm.groups, norm.weight, norm.bias, 1e-5)
    if film is not None:
        scale, shift = film[..., None, None].chunk(2, 1)
        expected = expected * (1 + scale) + shift
    torch.testing.assert_close(eager, expected, rtol=1e-11, atol=1e-11)

    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    fused = norm(x, film)
    torch.testing.assert_close(fused, expected, rtol=1e-11, atol=1e-11)
    gradients = [torch.autograd.grad(y.sin().sum(), inputs) for y in (eager, fused)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_groups_divide_the_channels():
    assert [GroupNorm(c).groups for c in (2, 4, 20, 64, 128, 192, 448)] == [1, 1, 5, 16, 32, 32, 32]


def test_a_row_is_dropped_alike_alone_and_in_any_batch():
    keys = Rng(5).samples(100).key
    x = torch.ones(100, 6, 4, 4)
    layer = Dropout(0.3, layer=2)
    whole = layer(x, keys)
    assert torch.equal(layer(x[17:18], keys[17:18])[0], whole[17])
    assert torch.equal(layer(x[50:], keys[50:]), whole[50:])  # the second of two ranks
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(channels_last, keys), whole)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(Dropout(0.3, layer=3)(x, keys), whole)


def test_dropout_keeps_the_mean_and_the_rate():
    y = Dropout(0.3, 0)(torch.ones(64, 1000), Rng(0).samples(64).key)
    kept = (y != 0).double().mean().item()
    assert abs(kept - 0.7) < 5 * math.sqrt(0.21 / y.numel())
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.7))


@pytest.mark.parametrize("keys", [Rng(0).samples(64).key, torch.arange(64), torch.arange(64) << 32])
def test_masks_of_samples_layers_and_positions_are_unrelated(keys):
    masks = torch.stack([Dropout(0.5, i)(torch.ones(64, 1000), keys) - 1 for i in range(4)])
    n = masks.shape[2]
    # Signs: products of unrelated ones have mean 0 and variance 1 / n. 32,640 pairs: 6 sigma.
    rows = masks.flatten(0, 1)
    between_rows = (rows @ rows.T / n - torch.eye(256)).abs().max()
    assert between_rows < 6 / math.sqrt(n)
    for lag in (1, 2, 8, 64):
        along = (rows[:, lag:] * rows[:, :-lag]).mean().abs()
        assert along < 6 / math.sqrt(256 * (n - lag))


def test_dropout_asks_for_keys_in_training_only():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r'cond\["dropout"\]'):
        Dropout(0.1, 0)(x, None)
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 3\)"):
        Dropout(0.1, 0)(x, torch.zeros(3, dtype=torch.int64))
    assert Dropout(0.1, 0).eval()(x, None) is x
    assert Dropout(0.0, 0)(x, None) is x
    with pytest.raises(ValueError, match="rate"):
        Dropout(1.0, 0)


def test_a_label_is_one_per_example():
    embedding = Embedding(8, 16, num_classes=3).double()
    times = Rng(0).normal((4, 5), torch.float64)
    label = torch.tensor([0, 1, 2, 3])
    per_token = embedding(times, {"label": label})
    for j in range(5):
        torch.testing.assert_close(per_token[:, j], embedding(times[:, j], {"label": label}))
    with pytest.raises(ValueError, match=r"\(3,\).*\(4, 5\)"):
        embedding(times, {"label": label[:3]})
    with pytest.raises(ValueError, match="unconditional"):
        Embedding(8, 16)(times.float(), {"label": label})


def test_labels_are_classes_or_the_null_class():
    embedding, times = Embedding(8, 16, num_classes=3), torch.zeros(2)
    embedding(times, {"label": torch.tensor([0, 3])})
    for label, told in (([0, 4], "0 to 4"), ([-1, 2], "-1 to 2")):
        with pytest.raises(ValueError, match=rf"0 \.\. 2, or 3 for none, got values from {told}"):
            embedding(times, {"label": torch.tensor(label)})
    assert embedding(times[:0], {"label": torch.tensor([], dtype=torch.int64)}).shape == (0, 16)
    embedding.to("meta")(times.to("meta"), {"label": torch.zeros(2, dtype=int, device="meta")})


TINY = {"width": 8, "depth": 1, "heads": 1, "num_classes": 3}


@pytest.mark.parametrize(
    ("network", "shape", "more"),
    [
        (UNet(2, 2, width=8, multipliers=(1,), attention=(False,), num_classes=3), (2, 4, 4), ""),
        (DiT(2, 2, size=(4, 4), **TINY), (2, 4, 4), ", hidden, mask"),
        (Transformer(4, 4, max_length=2, **TINY), (2, 4), ", hidden, mask"),
    ],
    ids=["unet", "dit", "transformer"],
)
@torch.no_grad()
def test_unknown_conditions_are_named(network, shape, more):
    x, log_snr, label = torch.zeros(3, *shape), torch.zeros(3), torch.arange(3)
    told = f"no condition 'labels': it takes label, estimate, dropout{more}"
    with pytest.raises(ValueError, match=told + "$"):
        network(x, log_snr, {"labels": label})
    with pytest.raises(ValueError, match="no condition 'text': it takes label"):
        network(x, log_snr, {"label": label, "text": label})

    known = {"label": label, "dropout": label}
    # In one graph the compiler wraps the words in an error of its own.
    for fullgraph, error in ((True, Unsupported), (False, ValueError)):
        torch.compiler.reset()
        compiled = torch.compile(network, backend="eager", fullgraph=fullgraph)
        assert torch.equal(compiled(x, log_snr, known), network(x, log_snr, known))
        with pytest.raises(error, match=told):
            compiled(x, log_snr, {"labels": label})


def test_attention_is_softmax_attention():
    attention = Attention(12, 3).double()
    x = Rng(0).normal((2, 5, 12), torch.float64)
    q, k, v = (a.unflatten(2, (3, 4)) for a in attention.qkv(x).chunk(3, -1))
    weights = (torch.einsum("bihd,bjhd->bhij", q, k) / 2).softmax(-1)
    expected = attention.out(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_padding_is_not_attended_to():
    attention = Attention(12, 3).double()
    x = Rng(0).normal((2, 5, 12), torch.float64)
    mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    torch.testing.assert_close(attention(x, mask)[:, :3], attention(x[:, :3]))
    with pytest.raises(ValueError, match="12 cannot be divided among 5"):
        Attention(12, 5)


@pytest.mark.parametrize("width", [0, -8])
def test_a_width_is_above_zero(width):
    made = (
        lambda: MLP(2, 2, width=width),
        lambda: Transformer(2, 2, max_length=3, width=width, depth=1, heads=2),
        lambda: CausalTransformer(2, 2, width=width, depth=1, heads=2, window=3),
        lambda: Recurrent(2, 2, width=width),
    )
    for make in made:
        with pytest.raises(ValueError, match=f"a width must be above 0, got {width}"):
            make()
