"""Noisy tokens after a clean past, all of them at once, against one token at a time."""

import pytest
import torch
from causal_cases import BUILDS, EVERYTHING, WINDOWED, A, B, T, recurrent, transformer, unet, video

from noiseloom.rng import Rng

KEPT = {name: value for name, value in EVERYTHING.items() if name != "dropout"}


def both(build, dtype=torch.float64, options=KEPT):
    """Noisy tokens, clean ones, and conditions that both have."""
    noisy, log_snr, cond = build.inputs(options, dtype=dtype)
    clean = Rng(11).normal(noisy.shape, dtype)
    return clean, noisy, log_snr, cond


def at_once(network, clean, noisy, log_snr, cond):
    """Two passes."""
    level = torch.full_like(log_snr, 20.0)
    own = {**cond, "position": 0}
    _, cache = network(clean, level, {**own, "cache": {}})
    if "mask" in cond:
        own["mask"] = torch.cat((cond["mask"], cond["mask"]), 1)
    return network(noisy, log_snr, {**own, "cache": cache, "alone": True})[0]


def one_by_one(network, clean, noisy, log_snr, cond):
    """For each token the plain network, given the clean tokens before it, and it."""
    said = []
    for i in range(clean.shape[1]):
        x = torch.cat((clean[:, :i], noisy[:, i : i + 1]), 1)
        level = torch.cat((torch.full_like(log_snr[:, :i], 20.0), log_snr[:, i : i + 1]), 1)
        some = {k: v[:, : i + 1] if k in PER_TOKEN else v for k, v in cond.items()}
        said.append(network(x, level, some)[:, -1])
    return torch.stack(said, 1)


PER_TOKEN = ("estimate", "action", "action_mask", "mask")


@pytest.mark.parametrize(
    ("build", "window", "depth"),
    [
        *((transformer, window, depth) for window in (1, 4, T, 30) for depth in (1, 3)),
        *((video, window, 2) for window in (1, 4, T)),
        *((unet, window, 2) for window in (1, 4, T)),
        *((recurrent, None, depth) for depth in (1, 3)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("padded", [False, True])
def test_all_tokens_at_once_are_each_of_them_after_a_clean_past(
    build, window, depth, dtype, limit, padded, awake
):
    network = awake(build(window=window, depth=depth, **KEPT)).to(dtype).eval()
    clean, noisy, log_snr, cond = both(build, dtype)
    if padded:
        cond["mask"] = torch.arange(T) >= torch.tensor([0, 2, 5])[:, None]
    expected = one_by_one(network, clean, noisy, log_snr, cond)
    assert expected.std() > 0.1
    found = at_once(network, clean, noisy, log_snr, cond)
    counted = cond.get("mask", torch.ones(B, T, dtype=torch.bool))
    torch.testing.assert_close(found[counted], expected[counted], rtol=0, atol=limit)


@BUILDS
@pytest.mark.parametrize("place", [0, 4, T - 1])
def test_a_token_sees_no_clean_token_from_its_own_on_and_no_other_noisy_one(build, place, awake):
    network = awake(build(**KEPT)).eval()
    clean, noisy, log_snr, cond = both(build)
    before = at_once(network, clean, noisy, log_snr, cond)

    other = clean.clone()
    other[:, place:] += 1
    after = at_once(network, other, noisy, log_snr, cond)
    assert torch.equal(after[:, : place + 1], before[:, : place + 1])
    if place + 1 < T:
        assert (after - before)[:, place + 1].abs().max() > 1e-6

    other = noisy.clone()
    other[:, place] += 1
    moved = (at_once(network, clean, other, log_snr, cond) - before).flatten(2).abs().amax((0, 2))
    assert moved[place] > 1e-6
    moved[place] = 0
    assert not moved.any()


@BUILDS
def test_gradients_flow_through_both_passes(build, awake):
    network = awake(build(action_features=A)).eval()
    clean, noisy, log_snr, cond = both(build, options={"action_features": A})
    clean.requires_grad_()
    noisy.requires_grad_()
    said = at_once(network, clean, noisy, log_snr, cond)
    past, own = torch.autograd.grad(said[:, 5].square().sum(), (clean, noisy))
    assert past[:, 4].abs().max() > 1e-6
    assert not past[:, 5:].any()
    assert own[:, 5].abs().max() > 1e-6
    own[:, 5] = 0
    assert not own.any()


@WINDOWED
def test_a_single_token_does_not_see_its_clean_self(build, awake):
    network = awake(build()).eval()
    x, log_snr, _ = build.inputs({}, length=1)
    torch.testing.assert_close(
        at_once(network, x + 1, x, log_snr, {}), network(x, log_snr), rtol=0, atol=1e-12
    )


@BUILDS
def test_a_cache_of_other_tokens_is_refused(build):
    network = build()
    x, log_snr, _ = build.inputs({}, dtype=torch.float32)
    _, new = network(x[:, 1:], log_snr[:, 1:], {"cache": {}})
    for cache in ({}, new):
        given = {"cache": cache, "position": 0, "alone": True}
        with pytest.raises(ValueError, match=f"a cache of the same {T} tokens"):
            network(x, log_snr, given)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
@pytest.mark.parametrize("build", [transformer, recurrent], ids=lambda b: b.name)
def test_a_compiled_network_says_the_same(build, awake):
    network = awake(build(**KEPT)).eval()
    data = both(build)
    expected = at_once(network, *data)
    network.compile(dynamic=False, backend="aot_eager")
    torch.testing.assert_close(at_once(network, *data), expected, rtol=0, atol=1e-10)
