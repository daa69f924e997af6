import pytest
import torch
from causal_cases import (
    BUILDS,
    EVERYTHING,
    WINDOWED,
    B,
    T,
    part,
    recurrent,
    transformer,
    unet,
    video,
)

from noiseloom.carry import append_tokens, gather, keep_tokens, repeat
from noiseloom.nets.attention import rotation
from noiseloom.nets.past import sight
from noiseloom.rng import Rng


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [x for y in (tree.values() if isinstance(tree, dict) else tree) for x in leaves(y)]


def rollout(network, data, chunk, first=1):
    """Read in chunks, with a cache of no more tokens than the network says it needs."""
    length, cache, outputs, start, stop = data[0].shape[1], {}, [], 0, first
    while start < length:
        x, log_snr, cond = part(data, start, stop)
        given = {**cond, "cache": cache, "position": start}
        # What denoising does: any number of calls before the one whose entries are kept.
        network(x + 1, log_snr - 1, given)
        y, new = network(x, log_snr, given)
        outputs.append(y)
        cache = append_tokens(cache, new)
        count = min(start, network.memory) + x.shape[1]
        cache = keep_tokens(cache, network.memory)
        assert {leaf.shape[1] for leaf in leaves(cache)} == {min(count, network.memory)}
        start, stop = stop, min(stop + chunk, length)
    return torch.cat(outputs, 1)


@pytest.mark.parametrize(
    ("build", "window", "depth"),
    [
        *((transformer, window, depth) for window in (1, 2, 4, 7, 30) for depth in (1, 3)),
        *((video, window, depth) for window, depth in ((1, 2), (4, 1), (4, 3), (7, 2), (30, 2))),
        *((unet, window, depth) for window, depth in ((1, 2), (4, 1), (4, 3), (7, 2), (30, 2))),
        *((recurrent, None, depth) for depth in (1, 3)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize(("chunk", "first"), [(1, 1), (3, 1), (3, 5)])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_cached_rollout_is_the_pass_over_the_whole_history(
    build, window, depth, chunk, first, dtype, limit, awake
):
    network = awake(build(window=window, depth=depth, **EVERYTHING)).to(dtype).eval()
    data = build.inputs(length=17, dtype=dtype)
    expected = network(*data)
    assert expected.std() > 0.1
    y = rollout(network, data, chunk, first)
    torch.testing.assert_close(y, expected, rtol=0, atol=limit)


@WINDOWED
def test_the_cache_is_not_a_recomputation_in_the_window(build, awake):
    network = awake(build(window=4, depth=2)).eval()
    data = build.inputs({})
    expected = network(*data)
    before = network(*part(data, 0, 4))
    torch.testing.assert_close(before, expected[:, :4], rtol=0, atol=1e-11)
    after = network(*part(data, T - 4, T))
    assert (after - expected[:, -4:])[:, -1].abs().max() > 1e-4


@WINDOWED
@pytest.mark.parametrize("more", [1, 3])
def test_a_cache_of_more_tokens_than_a_window_is_cut_to_it(build, more, awake):
    network = awake(build(window=3, depth=2, **EVERYTHING)).eval()
    data = build.inputs(length=12)
    cache, outputs = {}, []
    for t in range(12):
        x, log_snr, cond = part(data, t, t + 1)
        y, new = network(x, log_snr, {**cond, "cache": cache, "position": t})
        cache = keep_tokens(append_tokens(cache, new), network.memory + more)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), network(*data), rtol=0, atol=1e-10)


def test_padding_sees_itself():
    """A softmax over nothing is not a number on every device, and spreads in the next block."""
    seen = sight(torch.zeros(2, 5, 16), {"mask": torch.zeros(2, 5).bool()}, 0, 3, 8)["seen"]
    assert torch.equal(seen, torch.eye(5).bool().expand(2, 5, 5))


def test_the_band_is_that_of_a_dense_mask(awake):
    """One block, by hand: softmax over a banded matrix of rotated products."""
    network = awake(transformer(window=3, depth=1)).eval()
    attention = network.trunk.blocks[0].attention
    x = Rng(3).normal((B, T, 16), torch.float64)
    seen = sight(x, {}, 0, 3, 8)["seen"]
    turn = rotation(torch.arange(T)[None], 8, torch.float64)
    y, _ = attention.attend(x, seen, turn=turn)

    q, k, v = (a.unflatten(2, (2, 8)) for a in attention.qkv(x).chunk(3, -1))
    angle = torch.arange(T)[:, None] * 10_000.0 ** -(torch.arange(4, dtype=torch.float64) / 4)
    phase = torch.polar(torch.ones_like(angle), angle)[:, None]
    q, k = (torch.complex(a[..., :4], a[..., 4:]) * phase for a in (q, k))
    weights = torch.einsum("bihd,bjhd->bhij", q, k.conj()).real / 8**0.5
    for i in range(T):
        for j in range(T):
            if not i - 3 < j <= i:
                weights[:, :, i, j] = -torch.inf
    expected = attention.out(torch.einsum("bhij,bjhd->bihd", weights.softmax(-1), v).flatten(2))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)


@WINDOWED
def test_positions_are_relative(build, awake):
    network = awake(build(**EVERYTHING)).eval()
    x, log_snr, cond = build.inputs()
    expected = network(x, log_snr, cond)
    for shift in (5, torch.tensor(100_003), torch.tensor([0, 17, 2000])):
        y = network(x, log_snr, {**cond, "position": shift})
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    # They do matter: without their turns the order of the past is lost.
    swapped = x.clone()
    swapped[:, [0, 1]] = x[:, [1, 0]]
    plain = awake(build(window=T, depth=1)).eval()
    change = plain(swapped, torch.zeros(B)) - plain(x, torch.zeros(B))
    assert change[:, 2:].abs().max() > 1e-4


@BUILDS
def test_caches_are_carries(build, awake):
    network = awake(build(**EVERYTHING)).eval()
    data = build.inputs()
    _, cache = network(*part(data, 0, 6)[:2], {**part(data, 0, 6)[2], "cache": {}})
    x, log_snr, cond = part(data, 6, T)
    cache, position = keep_tokens(cache, network.memory), torch.tensor(6)
    y, _ = network(x, log_snr, {**cond, "cache": cache, "position": position})

    rows = torch.tensor([2, 0])
    some = {k: v[rows] for k, v in cond.items()}
    z, _ = network(
        x[rows], log_snr[rows], {**some, "cache": gather(cache, rows), "position": position}
    )
    torch.testing.assert_close(z, y[rows], rtol=0, atol=1e-11)

    many = {k: v.repeat_interleave(2, 0) for k, v in cond.items()}
    many |= {"cache": repeat(cache, 2), "position": torch.full((2 * B,), 6)}
    z, _ = network(x.repeat_interleave(2, 0), log_snr.repeat_interleave(2, 0), many)
    torch.testing.assert_close(z, y.repeat_interleave(2, 0), rtol=0, atol=1e-11)


@BUILDS
def test_readingleaves_the_cache_as_it_is(build, awake):
    network = awake(build(**EVERYTHING)).eval()
    data = build.inputs()
    x, log_snr, cond = part(data, 0, 3)
    _, cache = network(x, log_snr, {**cond, "cache": {}})
    kept = repeat(cache, 1)
    x, log_snr, cond = part(data, 3, 4)
    given = {**cond, "cache": cache, "position": 3}
    assert torch.equal(network(x, log_snr, given)[0], network(x, log_snr, given)[0])
    for leaf, before in zip(leaves(cache), leaves(kept), strict=True):
        assert torch.equal(leaf, before)
        assert leaf.shape[:2] == (B, 3)


@BUILDS
def test_padding_is_as_if_it_were_not_there(build, awake):
    network = awake(build(window=T, **EVERYTHING)).eval()
    data = build.inputs()
    expected = network(*part(data, 3, T))
    x, log_snr, cond = data
    cond["mask"] = torch.arange(T).expand(B, T) >= 3
    torch.testing.assert_close(network(x, log_snr, cond)[:, 3:], expected, rtol=0, atol=1e-10)

    cache, outputs = {}, []
    for t in range(T):
        now = part(data, t, t + 1)
        given = {**now[2], "mask": cond["mask"][:, : t + 1], "cache": cache, "position": t}
        y, new = network(*now[:2], given)
        cache = append_tokens(cache, new)
        outputs.append(y)
    assert all(y.isfinite().all() for y in outputs)
    torch.testing.assert_close(torch.cat(outputs[3:], 1), expected, rtol=0, atol=1e-10)
