"""Times, masks and weights of tokens: check 13.2 and 13.9 of Diffusion Forcing's file."""

import math

import pytest
import torch
from torch import nn

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    Prediction,
    RectifiedFlow,
    Rng,
    denoising_loss,
)
from noiseloom.objective import eps_weight, min_snr_weight, v_weight
from noiseloom.tokens import TIMES, forcing_times, fused_snr_weight, missing, sigmoid_weight

F64 = torch.float64
DIFFUSION = GaussianDiffusion(Cosine())


def times(kind, batch=4000, tokens=5):
    return forcing_times(kind, (batch, tokens), Rng(0).samples(batch))


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_a_sample_do_not_depend_on_the_batch(kind):
    t, counted = times(kind, 50)
    u, other = forcing_times(kind, (3, 5), Rng(0).samples(3, 17))
    assert torch.equal(t[17:20], u)
    assert torch.equal(counted[17:20], other)


def test_independent_times_are_uniform_and_independent():
    t, counted = times("independent")
    assert counted.all()
    assert (t.mean(0) - 0.5).abs().max() < 4 / math.sqrt(12 * 4000)
    assert (torch.corrcoef(t.T) - torch.eye(5)).abs().max() < 4 / math.sqrt(4000)


def test_full_sequences_have_one_time():
    t, counted = times("full-sequence")
    assert counted.all()
    assert (t == t[:, :1]).all()
    assert (t.mean(0) - 0.5).abs().max() < 4 / math.sqrt(12 * 4000)


def test_check_13_2_teacher_forcing_is_a_clean_past_and_no_future():
    t, counted = times("teacher-forcing")
    assert (counted.sum(1) == 1).all()
    share = counted.double().mean(0)
    assert (share - 0.2).abs().max() < 4 * math.sqrt(0.16 / 4000)
    n = counted.int().argmax(1)
    for row, place in zip(t[:100], n[:100], strict=True):
        assert not row[:place].any()
        assert 0 < row[place] < 1
        assert (row[place + 1 :] == 1).all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="must be one of independent, full-sequence"):
        forcing_times("sometimes", (2, 3), Rng(0))
    with pytest.raises(ValueError, match=r"a shape \(B, T\), got \(2,\)"):
        forcing_times("independent", (2,), Rng(0))


class Recorded(nn.Module):
    """Predicts zero, and keeps what it was shown."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.x, self.t = x, t
        return Prediction(torch.zeros_like(x)), {}


def test_check_13_9_what_is_missing_is_noise_and_does_not_count():
    diffusion = GaussianDiffusion(RectifiedFlow())  # alpha(1) = 0: nothing of the token is left
    clean = Rng(1).normal((3, 4, 2), F64)
    t, counted = forcing_times("independent", (3, 4), Rng(2).samples(3))
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    t, counted = missing(t.double(), counted, real)
    assert (t[~real] == 1).all()
    denoiser, key = Recorded(), Rng(3)
    loss = denoising_loss(denoiser, diffusion, clean, t, None, key, counted=counted)
    expected = [clean[0].square().mean(), clean[1, :2].square().mean(), torch.zeros((), dtype=F64)]
    torch.testing.assert_close(loss, torch.stack(expected))
    shown = denoiser.x.clone()
    other = torch.where(real[..., None], clean, 100.0)
    again = denoising_loss(denoiser, diffusion, other, t, None, key, counted=counted)
    assert torch.equal(denoiser.x, shown)
    assert torch.equal(again, loss)


def test_a_mask_of_all_is_the_plain_loss_and_a_coarser_time_is_spread_over_it():
    clean = Rng(1).normal((3, 4, 2), F64)
    settings = {"weight": v_weight}
    for t in (torch.rand(3, 4, dtype=F64), torch.tensor([0.2, 0.5, 0.9], dtype=F64)):
        plain = denoising_loss(Recorded(), DIFFUSION, clean, t, None, Rng(0), **settings)
        every = torch.ones(3, 4, dtype=torch.bool)
        masked = denoising_loss(
            Recorded(), DIFFUSION, clean, t, None, Rng(0), counted=every, **settings
        )
        torch.testing.assert_close(masked, plain)


def test_the_sigmoid_weight_is_one_of_eps_and_finite():
    log_snr = torch.linspace(-30, 15, 91, dtype=F64)
    for bias in (-1.0, 2.0):
        expected = torch.sigmoid(bias - log_snr) * eps_weight(log_snr)
        torch.testing.assert_close(sigmoid_weight(bias)(log_snr), expected)
    assert sigmoid_weight()(torch.tensor([-1e4, 1e4])).isfinite().all()


def by_hand(snr, gamma, cap, target, factor):
    """The recursion for one sequence, with Python numbers."""
    found, mean = [], None
    for k in snr:
        s, capped = k / cap, min(k / cap, 1)
        h = 0.0 if mean is None else mean
        f, f_capped = 1 - (1 - factor * h) * (1 - s), 1 - (1 - factor * h) * (1 - capped)
        mean = capped if mean is None else gamma * mean + (1 - gamma) * capped
        weights = {
            "x0": cap * f_capped,
            "eps": f_capped / f * k,
            "v": cap * f_capped / (cap * f + 1) * (k + 1),
        }
        found.append(weights[target])
    return found


@pytest.mark.parametrize("target", ["x0", "eps", "v"])
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_check_13_2_fused_weights_by_hand(target, variant):
    snr = [[0.3, 8.0, 1.0, 40.0], [20.0, 0.01, 2.0, 4.9]]
    gamma, cap = 0.7, 5.0
    log_snr = torch.tensor(snr, dtype=F64).log()
    found = fused_snr_weight(gamma, cap, target=target, variant=variant)(log_snr)
    factor = gamma if variant == "code" else 1.0
    expected = [by_hand(row, gamma, cap, target, factor) for row in snr]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))
    # The numbers of the first two tokens written out: H_2 = s'_1 = 0.06.
    g = factor
    if target == "x0":
        assert found[0, 0] == pytest.approx(0.3)
        assert found[0, 1] == pytest.approx(5.0)
        assert found[1, 1] == pytest.approx(5 * (1 - (1 - g * 1.0) * (1 - 0.002)))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.96])
def test_the_past_of_long_sequences_is_its_recursion(decay):
    log_snr = 3 * Rng(0).normal((5, 60), F64)
    found = fused_snr_weight(decay)(log_snr)
    expected = [by_hand(row, decay, 5.0, "v", decay) for row in log_snr.exp().tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64), rtol=1e-12, atol=1e-12)
    single = fused_snr_weight(decay)(log_snr.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), found, rtol=1e-5, atol=0)


def test_next_to_no_signal_keeps_its_digits():
    """In float32: 1 - (1 - s) would be 0 below 6e-8, and eps have no weight in pure noise."""
    log_snr = torch.linspace(-20, -5, 31)[:, None].expand(-1, 3)
    eps = fused_snr_weight(0.9, target="eps")(log_snr) / log_snr.exp()
    torch.testing.assert_close(eps, torch.ones_like(eps), rtol=1e-5, atol=0)
    first = fused_snr_weight(0.9, target="x0")(log_snr)[:, 0]
    torch.testing.assert_close(first, log_snr[:, 0].exp(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("target", ["x0", "eps", "v"])
def test_check_13_2_fused_is_min_snr_for_first_tokens_and_without_memory(target):
    log_snr = 3 * Rng(0).normal((6, 5), F64)
    plain = min_snr_weight(5.0)(log_snr)
    for variant in ("code", "paper"):
        found = fused_snr_weight(0.9, 5.0, target=target, variant=variant)(log_snr)
        torch.testing.assert_close(found[:, 0], plain[:, 0])
        assert (found[:, 1:] - plain[:, 1:]).abs().max() > 0.1
    torch.testing.assert_close(fused_snr_weight(0.0, 5.0, target=target)(log_snr), plain)


def test_check_13_2_noise_everywhere_leaves_the_capped_signal():
    log_snr = torch.full((1, 4), -12.0, dtype=F64)
    found = fused_snr_weight(0.9, target="x0")(log_snr)
    expected = 5 * (1 - (1 - math.exp(-12) / 5) * (1 - 0.9 * math.exp(-12) / 5))
    assert found[0, 3] == pytest.approx(expected)


def test_weights_of_aligned_times_are_per_token():
    log_snr = 3 * Rng(0).normal((6, 5), F64)
    weight = fused_snr_weight(0.9)
    aligned = weight(log_snr[..., None, None])
    assert torch.equal(aligned[..., 0, 0], weight(log_snr))
    with pytest.raises(ValueError, match="a time per token"):
        weight(log_snr[:, 0])
    with pytest.raises(ValueError, match="decay must be in"):
        fused_snr_weight(1.0)
    with pytest.raises(ValueError, match=r"cap > 0, got 0\.5 and 0"):
        fused_snr_weight(0.5, 0)
    with pytest.raises(ValueError, match="no fused SNR for target 'edm'"):
        fused_snr_weight(0.5, target="edm")
