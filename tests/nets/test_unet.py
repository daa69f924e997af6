import shutil

import pytest
import torch

from noiseloom.nets import UNet
from noiseloom.rng import Rng

SMALL = {
    "width": 16,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention": (False, True),
    "head_width": 16,
    "middle": "attention",
    "num_classes": 3,
    "self_conditioning": True,
}


def small(**options):
    with Rng(0).torch():
        return UNet(4, 5, **SMALL | options)


def inputs(batch=3, size=(8, 8)):
    rng, dtype = Rng(7), torch.float64
    x = rng.fold("x").normal((batch, 4, *size), dtype)
    log_snr = 5 * rng.fold("t").normal((batch,), dtype)
    cond = {
        "label": torch.arange(batch) % 4,
        "estimate": rng.fold("estimate").normal_like(x),
        "dropout": rng.samples(batch).key,
    }
    return x, log_snr, cond


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_are_the_papers():
    # Counts of the released network, and the paper's own figures beside them.
    with torch.device("meta"):
        assert parameters(UNet.cifar10()) == pytest.approx(52.02e6, rel=1e-3)  # paper: 51 M
        rgb = UNet.cifar10(3, 3, self_conditioning=False)
        assert parameters(rgb) == pytest.approx(51.87e6, rel=1e-3)
        assert parameters(UNet.imagenet64()) == pytest.approx(247.2e6, rel=1e-3)  # paper: 240 M
        unconditional = UNet.imagenet64(num_classes=None)
        assert parameters(unconditional) == pytest.approx(246.4e6, rel=1e-3)
        assert parameters(UNet.ddpm()) == pytest.approx(35.75e6, rel=0.1)


@pytest.mark.parametrize("size", [(8, 8), (2, 6), (12, 4)])
def test_the_output_starts_at_zero(size):
    x, log_snr, cond = inputs(size=size)
    y = small().double()(x, log_snr, cond)
    assert y.shape == (3, 5, *size)
    assert not y.any()


def test_absent_conditions_are_null(awake):
    network = awake(small())
    x, log_snr, cond = inputs()
    absent = network(x, log_snr)
    null = {"label": torch.full((3,), 3), "estimate": torch.zeros_like(x)}
    torch.testing.assert_close(network(x, log_snr, null), absent, rtol=0, atol=1e-12)
    for key in ("label", "estimate"):
        assert (network(x, log_snr, {key: cond[key]})[0] - absent[0]).abs().max() > 1e-3


def test_rows_of_a_batch_are_independent(awake):
    network = awake(small(dropout=0.2, per_pixel_time=True)).train()
    x, log_snr, cond = inputs(batch=4)
    whole = network(x, log_snr, cond)
    one = network(x[2:3], log_snr[2:3], {k: v[2:3] for k, v in cond.items()})
    torch.testing.assert_close(one, whole[2:3], rtol=0, atol=1e-10)


def test_dropout_works_in_training_only(awake):
    network = awake(small(dropout=0.2))
    x, log_snr, cond = inputs()
    with pytest.raises(ValueError, match="dropout"):
        network(x, log_snr)
    trained = network(x, log_snr, cond)
    network.eval()
    plain = network(x, log_snr, cond)
    assert not torch.equal(trained, plain)
    cond.pop("dropout")
    assert torch.equal(network(x, log_snr, cond), plain)


def test_channels_last_changes_the_memory_only(awake):
    network = awake(small())
    x, log_snr, cond = inputs()
    y = network(x, log_snr, cond)
    network.to(memory_format=torch.channels_last)
    z = network(x.contiguous(memory_format=torch.channels_last), log_snr, cond)
    assert z.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(z, y, rtol=0, atol=1e-9)


def test_a_time_per_pixel(awake):
    network = awake(small(per_pixel_time=True))
    x, log_snr, cond = inputs()
    one_each = network(x, log_snr, cond)
    for shape in ((3, 1, 1, 1), (3, 4, 8, 8), (3, 1, 8, 1)):
        same = log_snr[:, None, None, None].expand(shape).contiguous()
        torch.testing.assert_close(network(x, same, cond), one_each)
    uneven = same.clone()
    uneven[:, :, :4] += 1  # the same mean in total, another picture
    uneven[:, :, 4:] -= 1
    assert (network(x, uneven, cond) - one_each).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"\(3, 1, 4, 8\).*\(3, 4, 8, 8\)"):
        network(x, torch.zeros(3, 1, 4, 8), cond)


def test_gradients_reach_every_parameter(awake):
    network = awake(small(per_pixel_time=True))
    x, log_snr, cond = inputs(batch=4)
    network(x, log_snr, cond).square().sum().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_wrong_inputs_are_named():
    network = small().double()
    x, log_snr, cond = inputs()
    with pytest.raises(ValueError, match=r"\(3, 3, 8, 8\).*4 channels"):
        network(x[:, :3], log_snr)
    with pytest.raises(ValueError, match=r"7 x 8.*divisible by 2"):
        network(x[:, :, :7], log_snr)
    for shape in ((), (1,), (3, 8), (3, 1, 1, 1), (8,)):
        with pytest.raises(ValueError, match=r"log-SNR.*\(3, 4, 8, 8\)"):
            network(x, torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\).*\(3, 4, 8, 8\)"):
        network(x, log_snr, {"estimate": x[:2]})
    with pytest.raises(ValueError, match=r"label.*\(2,\).*\(3,\)"):
        network(x, log_snr, {"label": cond["label"][:2]})
    bare = small(num_classes=None, self_conditioning=False).double()
    with pytest.raises(ValueError, match="num_classes"):
        bare(x, log_snr, {"label": cond["label"]})
    with pytest.raises(ValueError, match="self_conditioning"):
        bare(x, log_snr, {"estimate": x})


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="3 entries and multipliers 2"):
        small(attention=(True, True, False))
    with pytest.raises(ValueError, match="heads of 24"):
        small(head_width=24)
    with pytest.raises(ValueError, match="middle"):
        small(middle="both")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="compiling needs a C++ compiler")
def test_compiles_to_one_graph(awake):
    network = awake(small(dropout=0.2, multipliers=(1,), attention=(True,), middle="none"))
    x, log_snr, cond = inputs()
    expected = network(x, log_snr, cond)
    gradients = torch.autograd.grad(expected.square().sum(), list(network.parameters()))
    compiled = torch.compile(network, fullgraph=True)
    y = compiled(x, log_snr, cond)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), list(network.parameters())),
        gradients,
        rtol=1e-7,
        atol=1e-7,
    )
