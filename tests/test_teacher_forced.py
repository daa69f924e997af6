"""Teacher forcing of all tokens at once, against one token of a sequence; and what recipes do."""

from dataclasses import replace

import pytest
import torch

from noiseloom import GaussianDiffusion, Preconditioned, RectifiedFlow, Rng, SelfConditioned
from noiseloom.nets import CausalTransformer, Recurrent, VideoTransformer, VideoUNet
from noiseloom.objective import denoising_loss, min_snr_weight, v_weight
from noiseloom.recipes import ForcingDigits, ForcingDoom, ForcingExchange, ForcingTrajectories
from noiseloom.tokens import TeacherForced, forcing_times, fused_snr_weight, sigmoid_weight

B, T = 4, 6
DIFFUSION = GaussianDiffusion(RectifiedFlow())  # sigma(0) = 0, of a cosine it is a little above
WINDOW = {"window": 3, "dropout": 0.3}
FRAMES = {"patch": 2, "width": 8, **WINDOW}
NETWORKS = {
    "transformer": lambda: CausalTransformer(3, 3, width=16, depth=2, heads=2, **WINDOW),
    "recurrent": lambda: Recurrent(3, 3, width=16, depth=2, dropout=0.3),
    "video": lambda: VideoTransformer(3, 3, depth=2, heads=2, **FRAMES),
    "unet": lambda: VideoUNet(
        3, 3, multipliers=(1,), blocks=1, attention=(True,), time=(True,), head_width=8, **FRAMES
    ),
}
WEIGHTS = {
    "none": (None, None),
    "v": (v_weight, v_weight),
    "min-snr": (min_snr_weight(), min_snr_weight()),
    "sigmoid": (sigmoid_weight(), sigmoid_weight()),
}
for variant in ("code", "paper"):
    pair = (fused_snr_weight(0.8, variant=variant, clean_past=past) for past in (False, True))
    WEIGHTS[f"fused-snr, {variant}"] = tuple(pair)


def made(name, dtype=torch.float64):
    """A denoiser with random parameters, in training mode, and clean tokens for it."""
    with Rng(0).torch(), torch.no_grad():
        network = NETWORKS[name]().to(dtype).train()
        for parameter in network.parameters():
            parameter.normal_(std=0.2)
    shape = (3,) if name in ("transformer", "recurrent") else (3, 4, 4)
    denoiser = Preconditioned(network, RectifiedFlow(), target="v", clock=10.0)
    return denoiser, Rng(5).normal((B, T, *shape), dtype)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_token_has_the_loss_of_a_sequence_that_trains_it_alone(name, weight):
    """With the noise, the dropout and the weight of the old scheme, in which no past is noisy."""
    denoiser, clean = made(name)
    single, every = WEIGHTS[weight]
    t, rng, losses = Rng(6).uniform((B, T)).double(), Rng(7), []
    for n in range(T):
        place = torch.arange(T)
        old = torch.where(place == n, t, (place > n).to(t.dtype))
        counted = (place == n).expand(B, T)
        settings = {"weight": single, "counted": counted}
        losses.append(denoising_loss(denoiser, DIFFUSION, clean, old, None, rng, **settings))
        new = denoising_loss(
            TeacherForced(denoiser),
            DIFFUSION,
            clean,
            t,
            {"past": clean},
            rng,
            weight=every,
            counted=counted,
        )
        torch.testing.assert_close(new, losses[-1], rtol=1e-9, atol=1e-10)
    found = denoising_loss(
        TeacherForced(denoiser), DIFFUSION, clean, t, {"past": clean}, rng, weight=every
    )
    torch.testing.assert_close(found, torch.stack(losses).mean(0), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_that_of_all_those_sequences(name):
    """So the clean tokens' pass has its share in it: without, it is another one."""
    denoiser, clean = made(name)
    t, place = Rng(6).uniform((B, T)).double(), torch.arange(T)

    def gradient(loss):
        found = torch.autograd.grad(loss, list(denoiser.parameters()), allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    def mean(forced):
        given = {"past": clean}
        return denoising_loss(forced, DIFFUSION, clean, t, given, Rng(7), weight=v_weight).mean()

    total = torch.zeros(())
    for n in range(T):
        old = torch.where(place == n, t, (place > n).to(t.dtype))
        settings = {"weight": v_weight, "counted": (place == n).expand(B, T)}
        loss = denoising_loss(denoiser, DIFFUSION, clean, old, None, Rng(7), **settings)
        total = total + loss.mean() / T
    expected, found = gradient(total), gradient(mean(TeacherForced(denoiser)))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)

    plain, forced = denoiser.forward, TeacherForced(denoiser)

    def detached(x, t, cond=None, carry=None, rng=None):
        with torch.set_grad_enabled(not cond.get("write", False)):
            return plain(x, t, cond, carry, rng)

    forced.denoiser.forward = detached
    assert (gradient(mean(forced)) - expected).norm() > 0.01 * expected.norm()


def test_clean_padding_is_seen_by_no_token():
    denoiser, clean = made("transformer")
    denoiser.eval()
    mask = torch.arange(T) >= torch.tensor([0, 2, 3, 5])[:, None]
    t = Rng(6).uniform((B, T)).double()
    prediction, carry = TeacherForced(denoiser)(clean + 1, t, {"past": clean, "mask": mask})
    other = torch.where(mask[..., None], clean, 9.0)
    again, _ = TeacherForced(denoiser)(clean + 1, t, {"past": other, "mask": mask})
    assert torch.equal(again.mean[mask], prediction.mean[mask])
    seen, _ = TeacherForced(denoiser)(clean + 1, t, {"past": other})
    assert not torch.equal(seen.mean[mask], prediction.mean[mask])
    assert carry == {}


def test_estimates_of_the_first_pass_come_to_the_second():
    with Rng(0).torch():
        network = CausalTransformer(
            3, 3, width=16, depth=1, heads=2, window=4, self_conditioning=True
        )
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    forced = TeacherForced(SelfConditioned(Preconditioned(network, RectifiedFlow())))
    clean, t = Rng(5).normal((B, T, 3)), Rng(6).uniform((B, T))
    first, carry = forced(clean + 1, t, {"past": clean})
    assert list(carry) == ["self_conditioning"]
    second, _ = forced(clean + 1, t, {"past": clean}, carry)
    assert (second.mean - first.mean).abs().max() > 1e-3
    for rate in (0.5, 1.0):
        settings = {"self_conditioning": rate}
        given = {"past": clean}
        loss = denoising_loss(forced, DIFFUSION, clean, t, given, Rng(1), **settings)
        assert loss.isfinite().all()


def test_clean_tokens_have_the_estimates_of_the_noisy_ones_beside_them():
    """Token n is told what it is at times 0, ..., 0, t_n of one sequence of estimates."""
    with Rng(0).torch():
        network = CausalTransformer(
            3, 3, width=16, depth=2, heads=2, window=4, self_conditioning=True
        ).double()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    denoiser = SelfConditioned(Preconditioned(network, RectifiedFlow()))
    clean, noisy, estimate = Rng(5).normal((3, B, T, 3), torch.float64)
    t, carry = Rng(6).uniform((B, T)).double(), {"self_conditioning": {"estimate": estimate}}
    found, _ = TeacherForced(denoiser)(noisy, t, {"past": clean}, carry)
    for n in range(T):
        x = torch.cat((clean[:, :n], noisy[:, n : n + 1], clean[:, n + 1 :]), 1)
        times = torch.where(torch.arange(T) == n, t, 0.0)
        expected, _ = denoiser(x, times, None, carry)
        torch.testing.assert_close(found.mean[:, n], expected.mean[:, n], rtol=0, atol=1e-10)


def test_recipes_train_all_tokens_at_once_but_for_bidirectional_networks():
    clean, keys = torch.zeros(8, 8, 3), Rng(0).samples(8)
    recipe = ForcingDigits(forcing="teacher-forcing")
    for network in ("causal", "recurrent"):
        t, counted = replace(recipe, network=network).times(clean, keys)
        assert counted is None
        assert torch.equal(t, forcing_times("independent", (8, 8), keys)[0])
    t, counted = replace(recipe, network="bidirectional").times(clean, keys)
    assert (counted.sum(1) == 1).all()
    assert torch.equal(t, forcing_times("teacher-forcing", (8, 8), keys)[0])

    ahead = ForcingTrajectories(forcing="teacher-forcing")
    t, counted = ahead.times(torch.zeros(8, ahead.tokens, 3), keys)
    assert not t[:, 0].any()
    assert (t[:, 1:] > 0).all()
    assert not counted[:, 0].any()
    assert counted[:, 1:].all()


def test_a_network_that_was_never_shown_a_noisy_past_is_shown_none_unless_asked():
    forced = {"forcing": "teacher-forcing"}
    for recipe, rest in ((ForcingDigits, 0.1), (ForcingExchange, 0.1), (ForcingDoom, 0.0)):
        assert recipe().resting == rest
        assert recipe(**forced).resting == 0
        assert recipe(**forced, rest=0.3).resting == 0.3
        assert recipe(rest=0.0).resting == 0
    for recipe in (ForcingExchange, ForcingDoom):
        assert recipe().read_at == 0.02
        assert recipe(**forced).read_at == 0
        assert recipe(**forced, stabilisation=0.3).read_at == 0.3
        assert recipe(stabilisation=0.0).read_at == 0
        assert recipe.changeable().count("stabilisation") == 1
    assert ForcingExchange(**forced, network="causal").whole_plan(None).s.min() == 0
