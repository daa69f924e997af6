"""What a U-Net for frames has of its own; the rest is tested with the other causal networks."""

import pytest
import torch
from causal_cases import EVERYTHING, B, T, part, unet
from torch import nn

from noiseloom.nets import UNet, VideoUNet
from noiseloom.nets.stages import Block
from noiseloom.rng import Rng

SMALL = {"width": 8, "blocks": 1, "head_width": 8}
NAMED = {
    "patch": 2,
    "width": 128,
    "multipliers": (1, 2, 2, 3),
    "blocks": 1,
    "attention": (False, False, True, True),
    "time": (False, True, True, True),
}
CONDITIONS = {name: value for name, value in EVERYTHING.items() if name != "codes"}


def small(stages=2, patch=1, **options):
    options = {"window": 4, "multipliers": (1, 2, 2)[:stages], **SMALL, **options}
    for name in ("attention", "time"):
        options.setdefault(name, (False,) * (stages - 1) + (True,))
    with Rng(0).torch():
        return VideoUNet(2, 3, patch=patch, **options)


def test_a_frame_is_normalised_as_if_it_were_alone(awake):
    network = awake(small(window=1)).eval()
    x, log_snr, _ = unet.inputs({})
    scales = torch.logspace(-3, 3, T, dtype=x.dtype)[:, None, None, None]
    whole = network(x * scales, log_snr)
    for t in range(T):
        alone = network(x[:, t : t + 1] * scales[t], log_snr[:, t : t + 1])
        torch.testing.assert_close(alone[:, 0], whole[:, t], rtol=0, atol=1e-11)
    # A first frame has no past, whatever the window is.
    network = awake(small(window=T)).eval()
    alone = network(x[:, :1], log_snr[:, :1])
    torch.testing.assert_close(alone, network(x, log_snr)[:, :1], rtol=0, atol=1e-11)


def test_without_what_time_adds_a_frame_is_a_picture_to_the_u_net(awake):
    options = {"multipliers": (1, 2), "attention": (False, True), **SMALL, "num_classes": 3}
    network = awake(small(num_classes=3, time=(True, True))).eval()
    picture = UNet(2, 3, **options).double().eval()
    weights = {}
    for name, value in network.state_dict().items():
        if ".time." in name:
            continue
        name = name.removeprefix("inputs.").replace(".space.", ".").replace("token.", "input.")
        if name == "input.weight":  # one pixel is the middle of a kernel
            value = nn.functional.pad(value[..., None, None], (1, 1, 1, 1))
        weights[name] = value
    picture.load_state_dict(weights)
    x, log_snr, cond = unet.inputs({"num_classes": 3})
    assert (network(x, log_snr, cond)[:, 0] - picture(x[:, 0], log_snr[:, 0], cond)).any()
    for name, parameter in network.named_parameters():
        if "time.attention.out" in name:
            nn.init.zeros_(parameter)
    y = network(x, log_snr, cond)
    for t in range(T):
        expected = picture(x[:, t], log_snr[:, t], cond)
        torch.testing.assert_close(y[:, t], expected, rtol=0, atol=1e-10)


def test_activations_stay_channels_last_and_places_are_read_as_they_lie(awake):
    network = awake(small(patch=2, time=(True, True))).eval()
    x = Rng(1).normal((B, T, 2, 8, 12), torch.float64)
    expected, seen = network(x, torch.zeros(B)), []

    def last(module, args, output):
        for h in (args[0], output[0] if isinstance(output, tuple) else output):
            # Frames of one place, or of one channel, lie in both orders.
            assert h.is_contiguous(memory_format=torch.channels_last)
        seen.append(module)

    for module in network.modules():
        if isinstance(module, Block | nn.Conv2d):
            module.register_forward_hook(last)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x, torch.zeros(B)), expected, rtol=0, atol=1e-9)
    assert len(seen) > 10


@pytest.mark.parametrize("patch", [1, 2])
def test_frames_may_have_any_size_that_can_be_halved(patch, awake):
    network = awake(small(patch=patch, time=(True, True), **CONDITIONS)).eval()
    for rows, columns in ((2, 2), (8, 2), (6, 10)):
        x = Rng(0).normal((2, 3, 2, rows * patch, columns * patch), torch.float64)
        y, new = network(x, torch.zeros(2), {"cache": {}})
        assert y.shape == (2, 3, 3, *x.shape[3:])
        places = [entry["keys"].shape[2:] for entry in new["tokens"]]
        large, little = (rows * columns, 1, 8), (rows * columns // 4, 2, 8)
        assert places == [large, *[little] * 3, *[large] * 2]


def test_frames_that_cannot_be_halved_are_named(awake):
    network = small(3, patch=2).double()
    x = torch.zeros(B, T, 2, 8, 12, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^frames of 8 x 12 pixels: .* by 8, .* 2 .* 2 times$"):
        network(x, torch.zeros(B))
    _, cache = network(x[..., :8], torch.zeros(B), {"cache": {}})
    given = {"cache": cache, "position": T}
    with pytest.raises(ValueError, match=r"cached.*\(3, 9, 1, 2, 8\).*16\): expected \(3, n, 2, 2"):
        network(torch.zeros(B, T, 2, 8, 16).double(), torch.zeros(B), given)
    with pytest.raises(ValueError, match=r"expected \(B, T, 2, H, W\)"):
        network(x[0], torch.zeros(B))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="2 entries, attention 2 and time 3"):
        small(time=(True,) * 3)
    with pytest.raises(ValueError, match="without attention over time"):
        small(time=(False, False))
    with pytest.raises(ValueError, match="16 channels cannot be divided into heads of 6"):
        small(head_width=6)
    with pytest.raises(ValueError, match="heads of an even number"):
        small(head_width=1)
    with pytest.raises(ValueError, match="at least 1"):
        small(window=0)


def test_every_frame_of_every_sample_has_its_own_dropout(awake):
    network = awake(small(window=1, dropout=0.5)).train()
    frame = Rng(0).normal((1, 1, 2, 4, 6), torch.float64)
    x, level = frame.expand(B, T, -1, -1, -1), torch.zeros(B)
    keys = Rng(1).samples(B).key
    for some in (keys, torch.arange(B)):  # neighbours are as good as hashes
        y = network(x, level, {"dropout": some}).flatten(2).flatten(0, 1)
        distances = torch.cdist(y, y) + torch.eye(B * T)
        assert distances.min() > 1e-3
    same = network(x, level, {"dropout": keys[:1].expand(B)})
    torch.testing.assert_close(same[1], same[0], rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match=r"keys of shape \(2,\) for 3 videos: expected \(3,\)"):
        network(x, level, {"dropout": keys[:2]})
    with pytest.raises(ValueError, match=r"dropout 0\.5 in training needs one key per sample"):
        network(x, level)


def test_the_parameters_are_those_of_a_u_net_and_of_attention_over_time():
    with torch.device("meta"):
        network = VideoUNet(3, 3, window=16, **NAMED)
        options = {name: value for name, value in NAMED.items() if name not in ("patch", "time")}
        picture = UNet(12, 12, **options)
    stem = 8 * 12 * 128  # 3 x 3 kernels there, single patches here
    time = sum(4 * w * w + 4 * w + 2 * w for w in 3 * [256] + 3 * [256] + 3 * [384])
    count = sum(p.numel() for p in network.parameters())
    assert count == sum(p.numel() for p in picture.parameters()) - stem + time
    text = " ".join(VideoUNet.__doc__.split())
    assert f"{count / 1e6:.1f} million parameters" in text
    assert all(f"{name}={value}" in text for name, value in NAMED.items())
    assert count >= 33e6


def test_autocast_changes_little_and_caches_are_as_small_as_its_type(awake):
    network = awake(small(**CONDITIONS)).float().eval()
    data = unet.inputs(dtype=torch.float32)
    expected = network(*data)
    with torch.autocast("cpu", torch.bfloat16):
        y, cache = network(*part(data, 0, 6)[:2], {**part(data, 0, 6)[2], "cache": {}})
        x, log_snr, cond = part(data, 6, T)
        z, _ = network(x, log_snr, {**cond, "cache": cache, "position": 6})
    assert cache["tokens"][0]["keys"].dtype == torch.bfloat16
    error = torch.cat((y, z), 1).float() - expected
    assert error.square().mean().sqrt() < 0.05 * expected.std()
