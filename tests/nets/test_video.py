"""What frames have beside tokens; the rest is tested with the other causal networks."""

import pytest
import torch
from causal_cases import EVERYTHING, B, T, part, video
from torch.nn import functional

from noiseloom import Cosine, GaussianDiffusion, Preconditioned, SamplingPlan, rollout
from noiseloom.nets import VideoTransformer
from noiseloom.nets.attention import Attention, rotation
from noiseloom.rng import Rng


@pytest.mark.parametrize("sight", ["all", "causal", "seen", "past"])
def test_sequences_side_by_side_attend_to_themselves_alone(sight, awake):
    attention, x = awake(Attention(16, 2)), Rng(3).normal((B, T, 6, 16), torch.float64)
    turn = rotation(torch.arange(T)[None], 8, torch.float64)
    given = {"turn": turn}
    if sight == "causal":
        given["causal"] = True
    if sight == "seen":
        given["seen"] = Rng(4).uniform((B, T, T)) + torch.eye(T) > 0.5
    past = {
        name: Rng(5).fold(name).normal((B, 4, 6, 2, 8), torch.float64)
        for name in ("keys", "values")
    }
    own = {"past": past} if sight == "past" else {}
    y, entry = attention.attend(x, **given, **own)
    for i in range(6):
        own = {"past": {k: v[:, :, i] for k, v in past.items()}} if sight == "past" else {}
        z, lone = attention.attend(x[:, :, i], **given, **own)
        torch.testing.assert_close(y[:, :, i], z, rtol=0, atol=1e-12)
        for name, leaf in lone.items():
            torch.testing.assert_close(entry[name][:, :, i], leaf, rtol=0, atol=1e-12)


def test_a_video_is_its_formula(awake):
    """Three branches, each with a shift, scale and gate of its own, and the way past the blocks."""
    trunk = awake(video(window=T, depth=1, dropout=0.0)).eval().trunk
    (block,), rng = trunk.blocks, Rng(3)
    h0 = rng.normal((B, T, 6, 16), torch.float64)
    embedding = rng.fold("embedding").normal((B, T, 16), torch.float64)
    y, *_ = trunk(h0, embedding, None, causal=True)

    def modulated(h, shift, scale):
        return functional.layer_norm(h, (16,), eps=1e-6) * (1 + scale) + shift

    parts = iter(trunk.modulation(embedding)[:, :, None].split(16, -1))
    shift, scale, gate = next(parts), next(parts), next(parts)
    each = [block.space(modulated(h0, shift, scale)[:, t]) for t in range(T)]
    h = h0 + gate * torch.stack(each, 1)
    shift, scale, gate = next(parts), next(parts), next(parts)
    z = modulated(h, shift, scale)
    each = [block.time.attend(z[:, :, i], causal=True)[0] for i in range(6)]
    h = h + gate * torch.stack(each, 2)
    shift, scale, gate = next(parts), next(parts), next(parts)
    h = h + gate * block.mlp(modulated(h, shift, scale))
    shift, scale, gate = next(parts), next(parts), next(parts)
    expected = trunk.output(modulated(h, shift, scale) + gate * h0)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)


def test_a_pixel_is_felt_all_over_its_frame_and_in_later_ones_at_once(awake):
    network = awake(video(depth=1, window=3)).eval()
    x, log_snr, _ = video.inputs({})
    moved = x.clone()
    moved[:, 4, 0, 3, 5] += 3
    change = (network(moved, log_snr) - network(x, log_snr)).abs().amax((0, 2))
    assert (change[4:7] > 1e-6).all()
    assert not change[:4].any()
    assert not change[7:].any()


def test_frames_that_are_not_causal_see_a_window_on_both_sides(awake):
    """One block sees i - 2 .. i + 2, and what padding holds is seen by none."""
    network = awake(video(depth=1, window=3, causal=False)).eval()
    x, log_snr, _ = video.inputs({})
    moved = x.clone()
    moved[:, 4, 0, 3, 5] += 3
    change = (network(moved, log_snr) - network(x, log_snr)).abs().amax((0, 2))
    assert (change[2:7] > 1e-6).all()
    assert not change[:2].any()
    assert not change[7:].any()
    mask = torch.arange(T).expand(B, T) != 4
    hidden = network(moved, log_snr, {"mask": mask}) - network(x, log_snr, {"mask": mask})
    assert not hidden[:, mask[0]].any()


def test_frames_that_see_all_need_no_mask_and_keep_no_cache(awake, monkeypatch):
    network = awake(video(depth=1, window=T, causal=False)).eval()
    x, log_snr, _ = video.inputs({})
    real, calls = functional.scaled_dot_product_attention, []

    def spy(q, k, v, attn_mask=None, is_causal=False):
        calls.append((attn_mask is not None, is_causal))
        return real(q, k, v, attn_mask=attn_mask, is_causal=is_causal)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    network(x, log_snr)
    assert calls == 2 * [(False, False)]
    with pytest.raises(ValueError, match="sees what follows keeps no cache"):
        network(x, log_snr, {"cache": {}})
    diffusion, plan = GaussianDiffusion(Cosine()), SamplingPlan.uniform(2)
    denoiser = Preconditioned(network, Cosine())
    with pytest.raises(ValueError, match="a rollout needs a causal network"):
        next(rollout(denoiser, diffusion, plan, x[:, :2], chunk=1, rng=Rng(0)))


def test_patches_know_their_places(awake):
    network = awake(video()).eval()
    x, log_snr, _ = video.inputs({})
    for shift, axis in ((2, 3), (2, 4), (4, 4)):
        turned = network(x.roll(shift, axis), log_snr).roll(-shift, axis)
        assert (turned - network(x, log_snr)).abs().max() > 1e-3


def test_frames_may_have_any_size(awake):
    network = awake(video(**EVERYTHING)).eval()
    for size in ((2, 2), (8, 2), (6, 10)):
        x = Rng(0).normal((2, 3, 2, *size), torch.float64)
        y, new = network(x, torch.zeros(2), {"cache": {}})
        assert y.shape == (2, 3, 3, *size)
        assert new["tokens"][0]["keys"].shape == (2, 3, size[0] * size[1] // 4, 2, 8)


def test_the_output_sees_how_large_the_state_is(awake):
    network = awake(video()).eval()
    x, log_snr, _ = video.inputs({})
    near, far = (network(scale * x, log_snr) / scale for scale in (1e6, 1e9))
    assert far.std() > 0.1
    torch.testing.assert_close(near, far, rtol=0, atol=1e-3)


def test_each_attention_is_one_call_and_masks_are_made_where_they_are_needed(awake, monkeypatch):
    network = awake(video(window=4, depth=2)).eval()
    x, log_snr, _ = video.inputs({})
    real, calls = functional.scaled_dot_product_attention, []

    def spy(q, k, v, attn_mask=None, is_causal=False):
        calls.append((tuple(q.shape), k.shape[2], attn_mask is not None, is_causal))
        return real(q, k, v, attn_mask=attn_mask, is_causal=is_causal)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spy)
    _, cache = network(x[:, :3], log_snr[:, :3], {"cache": {}})
    space, time = ((3 * B, 2, 6, 8), 6, False, False), ((B, 12, 3, 8), 3, False, True)
    assert calls == 2 * [space, time]

    calls.clear()
    network(x[:, 3:4], log_snr[:, 3:4], {"cache": cache, "position": 3})
    space, time = ((B, 2, 6, 8), 6, False, False), ((B, 12, 1, 8), 4, False, False)
    assert calls == 2 * [space, time]

    calls.clear()
    network(x, log_snr)
    assert [masked for _, _, masked, _ in calls] == [False, True, False, True]


def test_the_parameters_are_counted_by_hand():
    w, d, pixels = 384, 9, 3 * 8 * 8
    block = 2 * (4 * w * w + 4 * w) + 8 * w * w + 5 * w
    expected = (
        2 * (w * w + w)  # embedding
        + (pixels + 1) * w
        + d * block
        + (w + 1) * (9 * d + 3) * w
        + (w + 1) * pixels
    )
    network = VideoTransformer(3, 3, patch=8, width=w, depth=d, heads=6, window=16)
    count = sum(p.numel() for p in network.parameters())
    assert count == expected
    assert f"{count / 1e6:.1f} million parameters" in VideoTransformer.__doc__
    assert count >= 33e6


def test_what_cannot_be_cut_is_named(awake):
    network = video().double()
    x, log_snr, _ = video.inputs({})
    for wrong in (x[..., :5], x[..., :3, :]):
        size = r"\(3, 9, 2, 4, 5\)" if wrong.shape[-1] == 5 else r"\(3, 9, 2, 3, 6\)"
        with pytest.raises(ValueError, match=rf"{size}: .*2, H, W\) with H and W multiples .* 2$"):
            network(wrong, log_snr)
    _, cache = network(x, log_snr, {"cache": {}})
    with pytest.raises(ValueError, match=r"cached.*9, 6, 2, 8\).*\(3, 9, 2, 4, 4\).*n, 4, 2, 8\)"):
        network(x[..., :4], log_snr, {"cache": cache, "position": 9})
    with pytest.raises(ValueError, match="18 is not a multiple of 4"):
        VideoTransformer(2, 2, patch=2, width=18, depth=1, heads=1, window=2)


def test_autocast_changes_little_and_caches_are_as_small_as_its_type(awake):
    network = awake(video(**EVERYTHING)).float().eval()
    data = video.inputs(dtype=torch.float32)
    expected = network(*data)
    with torch.autocast("cpu", torch.bfloat16):
        y, cache = network(*part(data, 0, 6)[:2], {**part(data, 0, 6)[2], "cache": {}})
        x, log_snr, cond = part(data, 6, T)
        z, _ = network(x, log_snr, {**cond, "cache": cache, "position": 6})
    assert cache["tokens"][0]["keys"].dtype == torch.bfloat16
    error = torch.cat((y, z), 1).float() - expected
    assert error.square().mean().sqrt() < 0.05 * expected.std()
