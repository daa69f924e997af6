import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from toy_run import OPTIONS, Toy, finish

from noiseloom.rng import Rng
from noiseloom.training import Average, exponential, power_function, reconstruct
from noiseloom.training.checkpoint import read
from noiseloom.training.ema import _gamma, _inner


def walk(steps, size=64):
    """A toy trajectory: an approach, plus a random walk that slows down."""
    t = torch.arange(1, steps + 1, dtype=torch.float64)[:, None]
    noise = Rng(0).normal((steps, size), torch.float64)
    return (noise / t.sqrt()).cumsum(0) + 3 * torch.exp(-t / 100)


def follow(trajectory, decay):
    model = nn.Linear(trajectory.shape[1], 1, bias=False, dtype=torch.float64)
    average = Average(model, decay)
    for step, weights in enumerate(trajectory, 1):
        model.weight.data.copy_(weights[None])
        average.update(step)
        yield step, average.state_dict()["weight"][0]


def exact(trajectory, gamma, step):
    """The integral of tau^gamma theta(tau), theta constant between updates."""
    j = torch.arange(1, step + 1, dtype=torch.float64)
    weights = (j ** (gamma + 1) - (j - 1) ** (gamma + 1)) / step ** (gamma + 1)
    return weights @ trajectory[:step]


def test_an_average_starts_as_its_source_and_does_not_move_with_it():
    model = Toy()
    average = Average(model, exponential(0.9))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(average.state_dict()[k], v) for k, v in before.items())
    with torch.no_grad():
        model.head.weight.add_(1)
        model.scale.add_(1)
    assert torch.equal(average.state_dict()["head.weight"], before["head.weight"])
    assert torch.equal(average.state_dict()["scale"], model.scale)  # buffers are the model's


def test_the_exponential_average_is_the_weighted_sum():
    trajectory = walk(200)
    *_, (_, value) = follow(trajectory, exponential(0.95))
    betas = [min(0.95, (1 + k) / (10 + k)) for k in range(200)]
    weights = [(1 - b) * math.prod(betas[k + 1 :]) for k, b in enumerate(betas)]
    start = math.prod(betas)  # what is left of the source
    assert sum(weights) + start == pytest.approx(1)
    assert start < 1e-5
    expected = torch.tensor(weights, dtype=torch.float64) @ trajectory
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-4)


def test_a_constant_model_is_its_own_average():
    for decay in (exponential(0.999), power_function(0.1)):
        *_, (_, value) = follow(torch.ones(50, 3, dtype=torch.float64), decay)
        torch.testing.assert_close(value, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("sigma_rel", [0.05, 0.1, 0.2])
def test_the_power_function_average_is_exact_at_every_step(sigma_rel):
    trajectory = walk(300)
    for step, value in follow(trajectory, power_function(sigma_rel)):
        torch.testing.assert_close(value, exact(trajectory, _gamma(sigma_rel), step))


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.28])
def test_gamma_gives_the_width(sigma_rel):
    """The width is the standard deviation of the profile on [0, 1], by quadrature too."""
    g = _gamma(sigma_rel)
    assert math.sqrt(g + 1) / ((g + 2) * math.sqrt(g + 3)) == pytest.approx(sigma_rel)
    tau = (np.arange(400_000) + 0.5) / 400_000
    p = (g + 1) * tau**g / 400_000
    spread = np.sum(p * tau**2) - np.sum(p * tau) ** 2
    assert math.sqrt(spread) == pytest.approx(sigma_rel, rel=1e-4)


def test_inner_products_match_quadrature():
    t, g = np.array([300.0, 500.0, 500.0]), np.array([16.97, 6.94, 0.5])
    tau = (np.arange(500_000) + 0.5) / 1000
    profiles = (g[:, None] + 1) / t[:, None] * (tau / t[:, None]) ** g[:, None]
    profiles[tau[None] > t[:, None]] = 0
    assert _inner(t, g, t, g) == pytest.approx(profiles @ profiles.T / 1000, rel=1e-4)


def snapshots(folder, trajectory, every):
    folder.mkdir()
    for width in (0.05, 0.1):
        for step, value in follow(trajectory, power_function(width)):
            if step % every == 0:
                path = folder / f"step-{step:08d}-{width:.3f}.safetensors"
                save_file({"weight": value.clone(), "count": torch.tensor(step)}, path)


def test_reconstruction_finds_widths_that_were_never_kept(tmp_path):
    trajectory = walk(800)
    snapshots(tmp_path / "s", trajectory, every=25)
    for sigma_rel, tolerance in ((0.05, 1e-9), (0.1, 1e-9), (0.07, 0.01), (0.15, 0.02)):
        for step in (400, 800):
            expected = exact(trajectory, _gamma(sigma_rel), step)
            # The scale of what there is to find: how far the two kept averages are apart.
            kept = [exact(trajectory, _gamma(width), step) for width in (0.05, 0.1)]
            scale = (kept[0] - kept[1]).norm()
            found = reconstruct(tmp_path / "s", sigma_rel, step)
            assert (found["weight"] - expected).norm() < tolerance * scale, (sigma_rel, step)
            if sigma_rel not in (0.05, 0.1):
                assert min((k - expected).norm() for k in kept) > 0.4 * scale
            assert found["count"] == step  # what is not floating-point is the newest
    assert torch.equal(
        reconstruct(tmp_path / "s", 0.07)["weight"],
        reconstruct(tmp_path / "s", 0.07, 800)["weight"],
    )


def test_reconstruction_refuses(tmp_path):
    with pytest.raises(FileNotFoundError, match="post_hoc_ema"):
        reconstruct(tmp_path, 0.1)
    with pytest.raises(ValueError, match="sigma_rel must be in"):
        power_function(0.3)


def test_a_run_leaves_snapshots_that_reconstruct(tmp_path):
    model = finish(tmp_path, replace(OPTIONS, post_hoc_ema=True))
    folder = tmp_path / "ema_snapshots"
    steps = (5, 10, 15, 20, 24)
    expected = [f"step-{k:08d}-{w}.safetensors" for k in steps for w in ("0.050", "0.100")]
    assert sorted(path.name for path in folder.iterdir()) == expected
    found = reconstruct(folder, 0.05)
    model.load_state_dict(found)
    kept = read(folder / "step-00000024-0.050.safetensors")
    for name, value in kept.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
