"""A denoiser and its encoder, trained together: what is drawn once, what gradients reach, resuming.

Checks 11, 15 and 16 of the paper's specification, and what self-conditioning adds to them.
"""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import noiseloom as nl
from noiseloom.data import gaussians_on_a_circle
from noiseloom.latents import (
    Latent,
    Restart,
    UsageBonus,
    annealed_temperature,
    latent_loss,
    one_hot,
)
from noiseloom.nets import MLP, VectorEncoder
from noiseloom.noise import EDM
from noiseloom.objective import denoising_loss
from noiseloom.training import Training, init_from, train
from noiseloom.training.precision import networks

SCHEDULE = nl.Cosine()
DIFFUSION = nl.GaussianDiffusion(SCHEDULE)
CLEAN = nl.Rng(0).fold("clean").normal((24, 2))
T = torch.linspace(0.05, 0.95, 24)


def shaken(module):
    """Weights far from their start, where some are 0."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.3 * nl.Rng(1).fold("shake", i).normal(parameter.shape)
    return module


def make(m=2, k=4, again=False, **options):
    with nl.Rng(0).torch():
        network = MLP(2, 2, width=16, depth=2, codes=(m, k), self_conditioning=again)
        denoiser = nl.Preconditioned(network, SCHEDULE)
        denoiser = nl.SelfConditioned(denoiser) if again else denoiser
        encoder = VectorEncoder(2, m, k, width=16)
    return Latent(denoiser, encoder, m=m, k=k, **{"updates": 10, **options})


def gradients(module):
    return [p.grad for p in module.parameters()]


class Encoder(nn.Module):
    """What is told beside the clean states is kept."""

    def __init__(self):
        super().__init__()
        self.inner, self.told = VectorEncoder(2, 2, 4, width=16), []


class WithScale(Encoder):
    def forward(self, clean, scale=1.0):
        self.told.append(scale)
        return self.inner(scale * clean)


class WithOptions(Encoder):
    def forward(self, clean, **options):
        self.told.append(options)
        return self.inner(clean)


class WithCond(Encoder):
    def forward(self, clean, scale=1.0, cond=None):
        self.told.append(cond)
        return self.inner(scale * clean)


@pytest.mark.parametrize(
    ("kind", "told"), [(WithScale, 1.0), (WithOptions, {}), (WithCond, {"dropout": None})]
)
@pytest.mark.parametrize("compiled", [False, True])
def test_an_encoder_is_told_conditions_by_their_name_alone(kind, told, compiled):
    encoder = kind()
    module = torch.compile(encoder, backend="eager") if compiled else encoder
    model = Latent(shaken(make().denoiser), module, m=2, k=4, updates=10)
    assert torch.equal(model.logits(CLEAN, {"dropout": None}), encoder.inner(CLEAN))
    assert encoder.told == [told]
    latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2)).sum().backward()
    assert encoder.inner.head.weight.grad.any()


def test_a_compiled_encoder_of_states_alone_is_one_too():
    encoder = VectorEncoder(2, 2, 4, width=16)
    compiled = torch.compile(encoder, backend="eager")
    model = Latent(make().denoiser, compiled, m=2, k=4, updates=10)
    assert torch.equal(model.logits(CLEAN), encoder(CLEAN))


def test_a_call_is_passed_through():
    model = shaken(make())
    cond, x = {"codes": one_hot(torch.ones(24, 2, dtype=torch.int64), 4)}, CLEAN
    assert torch.equal(model(x, T, cond)[0].mean, model.denoiser(x, T, cond)[0].mean)
    absent, zero = (model(x, T, c)[0].mean for c in ({}, {"codes": torch.zeros(24, 2, 4)}))
    assert torch.equal(absent, zero)
    assert not torch.equal(absent, model(x, T, cond)[0].mean)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_the_loss_reaches_encoder_and_denoiser(hard, again):
    model = shaken(make(again=again, hard=hard, drop=0.3))
    share = 0.5 if again else 0.0
    latent_loss(
        model, DIFFUSION, CLEAN, T, None, nl.Rng(2), self_conditioning=share
    ).mean().backward()
    assert all(g is not None and g.abs().max() > 0 for g in gradients(model))


class Listening(nn.Module):
    """A linear denoiser of state, codes and estimate, which keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(nl.Rng(7).normal((8, 2)))
        self.calls = []

    def forward(self, x, log_snr, cond):
        self.calls.append((cond["codes"], cond["estimate"], torch.is_grad_enabled()))
        return 0.3 * x + cond["codes"].flatten(1) @ self.code + 0.7 * cond["estimate"]


def listening(**options):
    with nl.Rng(0).torch():
        encoder = VectorEncoder(2, 2, 4, width=16)
    denoiser = nl.SelfConditioned(nl.Preconditioned(Listening(), SCHEDULE))
    return Latent(denoiser, encoder, m=2, k=4, updates=10, **options)


def test_both_passes_are_told_the_same_codes_which_the_first_cannot_learn_from():
    model = listening(drop=0.4)
    latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2), self_conditioning=1.0)
    (first, _, with_first), (second, estimate, with_second) = model.denoiser.denoiser.network.calls
    assert torch.equal(first, second)
    assert (with_first, with_second) == (False, True)
    assert (first.requires_grad, estimate.requires_grad) == (False, False)
    assert second.requires_grad
    kept = second.flatten(1).any(1)
    assert 0 < kept.sum() < 24
    # A dropped code does not leak through the estimate: it is that of no codes.
    x = DIFFUSION.corrupt(CLEAN, T, nl.Rng(2).samples(24).fold("noise"))
    none = {"codes": torch.zeros(24, 2, 4)}
    silent = model.denoiser(x, T, none)[0].mean
    assert torch.equal(estimate[~kept], silent[~kept])
    assert not torch.equal(estimate[kept], silent[kept])


def test_the_loss_is_of_codes_at_the_temperature_of_the_update_and_less_the_bonus():
    """Codes are softmax((logits + g) / T(p)), g = -ln(-ln u), p the share of updates made."""
    bonus, found = UsageBonus(0.5, 0.4, 0.9), []
    for rule in (None, bonus):
        model = listening(drop=0.3, bonus=rule, temperature=annealed_temperature(4.0, 0.5, 0.8))
        model.passes.fill_(6)  # of 10
        found.append(latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2)))
    codes = model.denoiser.denoiser.network.calls[-1][0].detach()
    kept = codes.flatten(1).any(1)
    assert 0 < kept.sum() < 24
    logits = model.logits(CLEAN).detach()
    gumbel = -(-nl.Rng(2).samples(24).fold("codes").uniform((24, 2, 4)).log()).log()
    soft = ((logits + gumbel) / (4 * 0.125**0.75)).softmax(-1)
    torch.testing.assert_close(codes[kept], soft[kept])
    plain, less = found
    worth = bonus(logits.softmax(-1), kept, torch.tensor(0.6))
    assert worth.abs().min() > 0.01
    torch.testing.assert_close(plain - less, worth, rtol=1e-4, atol=1e-5)


def test_encoder_gradients_come_once_from_the_second_pass():
    # In closed form: with the estimate u held fixed, d loss / d codes = 2 (mean - x_0) code^T / 2.
    model = listening(drop=0.0)
    seen = {}
    model.encoder.register_forward_hook(lambda _, __, out: seen.update(logits=out) or out)
    loss = latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2), self_conditioning=1.0)
    (_, _, _), (codes, estimate, _) = model.denoiser.denoiser.network.calls
    codes.retain_grad()
    (found,) = torch.autograd.grad(loss.sum(), codes, retain_graph=True)
    x = DIFFUSION.corrupt(CLEAN, T, nl.Rng(2).samples(24).fold("noise"))
    code = model.denoiser.denoiser.network.code.detach()
    given = codes.detach().flatten(1)
    mean = 0.3 * x * (SCHEDULE(T)[0] ** 2 + SCHEDULE(T)[1] ** 2).rsqrt()[:, None]
    mean = mean + given @ code + 0.7 * estimate
    torch.testing.assert_close(found.flatten(1), (mean - CLEAN) @ code.T, rtol=1e-4, atol=1e-5)
    (to_logits,) = torch.autograd.grad(loss.sum(), seen["logits"])
    expected = codes.detach() * (found - (codes.detach() * found).sum(-1, keepdim=True))
    torch.testing.assert_close(to_logits, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("bonus", [None, UsageBonus()])
def test_with_drop_rate_1_the_loss_does_not_depend_on_the_encoder(again, bonus):
    model = shaken(make(again=again, drop=1.0, bonus=bonus))
    found = []
    for _ in range(2):
        model.zero_grad()
        loss = latent_loss(
            model, DIFFUSION, CLEAN, T, None, nl.Rng(2), self_conditioning=0.5 * again
        )
        loss.mean().backward()
        assert not any(g.any() for g in gradients(model.encoder))
        found.append(loss)
        shaken(model.encoder)
    assert torch.equal(*found)
    plain = denoising_loss(
        model.denoiser, DIFFUSION, CLEAN, T, {}, nl.Rng(2), self_conditioning=0.5 * again
    )
    assert torch.equal(found[0], plain)


@pytest.mark.parametrize("bonus", [None, UsageBonus(0.5, 0.5)])
def test_dropped_samples_give_the_encoder_no_gradient(bonus):
    model = shaken(make(drop=0.5, bonus=bonus))
    clean = CLEAN.clone().requires_grad_()
    model.passes += 5
    seen = {}
    model.encoder.register_forward_hook(lambda _, __, out: out.retain_grad() or seen.update(l=out))
    model.encoder.register_forward_pre_hook(lambda _, args: (args[0] + 0 * clean,))
    inner = model.denoiser.network
    inner.register_forward_pre_hook(lambda _, args: seen.update(codes=args[2]["codes"]))
    latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2)).mean().backward()
    kept = seen["codes"].flatten(1).any(1)
    assert 0 < kept.sum() < 24
    assert torch.equal(seen["l"].grad.flatten(1).any(1), kept)


@pytest.mark.parametrize(("m", "k"), [(0, 4), (1, 1), (3, 1)])
def test_codes_that_say_nothing_leave_a_training_as_it_is_bit_for_bit(tmp_path, m, k):
    data, options = gaussians_on_a_circle(64).train, Training(steps=4, batch_size=16)
    schedule, found = EDM(), []
    for latent in (False, True):
        with nl.Rng(0).torch():
            codes = (m, k) if latent else None
            network = MLP(2, 2, width=16, depth=2, codes=codes)
            model = nl.Preconditioned(network, schedule, target="edm", data_std=2.0)
            model = Latent(model, VectorEncoder(2, m, k), m=m, k=k, updates=4) if latent else model

        def loss(model, batch, rng, rows):
            t = rng.fold("time").uniform((16,))
            step = latent_loss if isinstance(model, Latent) else denoising_loss
            return step(
                model, nl.GaussianDiffusion(schedule), batch["values"], t, {}, rng, rows=rows
            )

        losses = [p.loss for p in train(model, loss, data, options, tmp_path / str(latent))]
        found.append((losses, network.state_dict()))
    (plain, weights), (coded, same) = found
    assert plain == coded
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_a_plain_run_is_where_codes_begin():
    with nl.Rng(3).torch():
        plain = shaken(nl.Preconditioned(MLP(2, 2, width=16, depth=2), SCHEDULE))
    model = make()
    new = init_from(model, plain.state_dict())
    assert any("told" in name for name in new)
    for indices in (torch.zeros(24, 2, dtype=torch.int64), torch.full((24, 2), 3)):
        cond = {"codes": one_hot(indices, 4)}
        assert torch.equal(model(CLEAN, T, cond)[0].mean, plain(CLEAN, T)[0].mean)


def test_a_training_that_starts_from_another_counts_from_0():
    old = make()
    for _ in range(7):
        latent_loss(old, DIFFUSION, CLEAN, T, None, nl.Rng(2))
    new = make()
    init_from(new, old.state_dict())
    assert (int(old.passes), int(new.passes)) == (7, 0)
    assert torch.equal(new.encoder.head.weight, old.encoder.head.weight)


@pytest.mark.parametrize(("m", "k"), [(2, 5), (2, 3), (3, 4), (1, 4)])
def test_other_codes_are_felt_at_once_and_not_inherited(m, k):
    old, new = make(), make(m=m, k=k)
    before = copy.deepcopy(new.state_dict())
    told = f"codes of m {m}, k {k} cannot start as those of m 2, k 4"
    with pytest.raises(ValueError, match=f"{told}.* keep m and k as they were"):
        init_from(new, old.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in new.state_dict().items())


def test_guidance_on_codes_is_linear_in_its_scale_and_drops_nothing_else():
    with nl.Rng(0).torch():
        network = shaken(MLP(2, 2, width=16, depth=2, codes=(2, 4), num_classes=3))
    denoiser = nl.Preconditioned(network, SCHEDULE)
    label = torch.arange(24) % 3
    codes = one_hot(torch.arange(48).reshape(24, 2) % 4, 4)
    cond = {"codes": codes, "label": label}
    with_, without = denoiser(CLEAN, T, cond)[0].mean, denoiser(CLEAN, T, {"label": label})[0].mean
    nobody = denoiser(CLEAN, T, {"codes": codes})[0].mean
    for scale in (0, 1, 2, 3.5):  # the paper's cfg is scale - 1
        guided = nl.ClassifierFree(denoiser, scale, drop=("codes",))
        found = guided(CLEAN, T, cond)[0].mean
        torch.testing.assert_close(found, without + scale * (with_ - without))
        # Composed with guidance on the class: the codes' inside, the class's outside.
        both = nl.ClassifierFree(guided, 1.5, drop=("label",))(CLEAN, T, cond)[0].mean
        neither = denoiser(CLEAN, T)[0].mean
        unlabelled = neither + scale * (nobody - neither)
        torch.testing.assert_close(both, unlabelled + 1.5 * (found - unlabelled))


class Tokens(nn.Module):
    """A linear denoiser of tokens that reads the codes of the whole and each token's level."""

    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(nl.Rng(7).normal((8, 3)))

    def forward(self, x, log_snr, cond):
        assert log_snr.shape == x.shape[:2]
        told = (cond["codes"].flatten(1) @ self.code)[:, None]
        return log_snr.sigmoid()[..., None] * x + told


def test_a_level_per_token_goes_through_as_it_is():
    with nl.Rng(0).torch():
        encoder = nn.Sequential(nn.Flatten(), VectorEncoder(12, 2, 4, width=16))
    denoiser = nl.Preconditioned(Tokens(), SCHEDULE)
    model = Latent(denoiser, encoder, m=2, k=4, updates=10, drop=0.0, hard=True)
    clean, t = nl.Rng(0).normal((24, 4, 3)), nl.Rng(1).uniform((24, 4))
    loss = latent_loss(model, DIFFUSION, clean, t, None, nl.Rng(2))
    loss.mean().backward()
    assert encoder[1].head.weight.grad.abs().max() > 0
    rng = nl.Rng(2).samples(24)
    codes = one_hot(model.encode(clean, rng.fold("codes")), 4)
    expected = denoising_loss(denoiser, DIFFUSION, clean, t, {"codes": codes}, rng)
    torch.testing.assert_close(loss, expected)


def test_network_and_encoder_are_what_is_compiled_and_runs_in_bfloat16():
    model = make(again=True)
    assert networks(model) == [model.denoiser.denoiser.network, model.encoder]
    assert networks(model.encoder) == [model.encoder]


def test_the_counter_is_of_updates_of_training_only():
    model = make(accumulate=2, updates=10, temperature=annealed_temperature(3.0, 0.3))
    progress = []
    for _ in range(5):
        progress.append(float(model.progress))
        latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2))
    assert progress == pytest.approx([0, 0, 0.1, 0.1, 0.2])
    model.eval()
    before = copy.deepcopy(model.state_dict())
    latent_loss(model, DIFFUSION, CLEAN, T, None, nl.Rng(2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


OPTIONS = {"drop": 0.1, "bonus": UsageBonus(), "restart": Restart(1.0, every=2, until=1.0)}


def trained(tmp_path, name, steps, accumulate=1, resume=False, stop=None):
    data = gaussians_on_a_circle(64).train
    options = Training(steps=steps, batch_size=16, accumulate=accumulate, checkpoint_every=3)
    temperature = annealed_temperature(3.0, 0.3)
    model = make(updates=steps, accumulate=accumulate, temperature=temperature, labels=8, **OPTIONS)

    def loss(model, batch, rng, rows):
        t = rng.fold("time").uniform((len(rows),))
        clean, labels = batch["values"], batch["label"]
        return latent_loss(model, DIFFUSION, clean, t, {}, rng, rows=rows, labels=labels)

    for progress in train(model, loss, data, options, tmp_path / name, resume=resume):
        if progress.step == stop:
            break
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, accumulate):
    whole = trained(tmp_path, "whole", 9, accumulate)
    trained(tmp_path, "parts", 9, accumulate, stop=4)
    parts = trained(tmp_path, "parts", 9, accumulate, resume=True)
    assert int(whole.passes) == 9 * accumulate
    state = parts.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
    lines = [(tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("whole", "parts")]
    assert [line.partition('"seconds"')[0] for line in lines[0]] == [
        line.partition('"seconds"')[0] for line in lines[1]
    ]
    assert all("mutual_information" in line and '"perplexity"' in line for line in lines[0])


def test_encoder_and_denoiser_are_averaged_and_saved_together(tmp_path):
    model = trained(tmp_path, "run", 3)
    saved = load_file(tmp_path / "run" / "ema.safetensors")
    assert saved.keys() == model.state_dict().keys()
    assert int(saved["passes"]) == 3
    assert not torch.equal(saved["encoder.head.weight"], model.encoder.head.weight)
    save_file(saved, tmp_path / "again.safetensors")


def test_a_dead_code_begins_again_as_half_of_the_most_used():
    rule = Restart(0.5, every=5, until=0.9)
    model = shaken(make(m=2, k=4, restart=rule, updates=100, accumulate=2))
    model.encoder.split = 3  # a name that modules have for other things
    head, table = model.encoder.head, model.denoiser.network.codes
    usage = torch.tensor([[0.7, 0.2, 0.09, 0.01], [0.25, 0.25, 0.3, 0.2]])
    model.usage.copy_(usage)
    before = copy.deepcopy(model.state_dict())
    for passes in (0, 8, 11):  # at the start, after four updates, and within the sixth: not due
        model.passes.fill_(passes)
        model.begin()
        assert torch.equal(head.weight, before["encoder.head.weight"])
    model.passes.fill_(10)
    model.begin()
    expected = usage.clone()
    expected[0, [0, 3]] = 0.355
    torch.testing.assert_close(model.usage, expected)
    assert torch.equal(table.table[0, 3], table.table[0, 0])
    assert torch.equal(head.bias[0, 3], head.bias[0, 0])
    apart = head.weight[0, 3] - head.weight[0, 0]
    assert 0 < apart.std() < 0.3 * head.weight[0, 0].std()
    for name, old in (
        ("encoder.head.weight", head.weight),
        ("denoiser.network.codes.table", table.table),
    ):
        assert torch.equal(old[0, :3], before[name][0, :3])
        assert torch.equal(old[1], before[name][1])
    model.usage.copy_(usage)
    again = head.weight.clone()
    model.passes.fill_(190)
    model.begin()  # too late
    assert torch.equal(head.weight, again)


def test_the_report_sees_use_and_information():
    model = make(m=1, k=4, updates=10, labels=4)
    labels = torch.arange(64) % 4
    for q in (one_hot(labels[:, None], 4), torch.full((64, 1, 4), 0.25)):
        for _ in range(400):
            model.end(q, labels)
        found = {name: float(value) for name, value in model.report().items()}
        assert found["perplexity"] == pytest.approx(4, abs=0.01)
        told = 2.0 if q.max() == 1 else 0.0
        assert found["information"] == pytest.approx(told, abs=0.02)
        assert found["least_information"] == pytest.approx(told, abs=0.02)
        assert found["mutual_information"] == pytest.approx(told, abs=0.02)
        assert found["dead_codes"] == 0
    assert make(m=0).report() == {}


def test_the_report_has_the_perplexity_of_every_latent():
    model = make(m=3, k=4, updates=10)
    q = torch.stack((one_hot(torch.arange(64) % 4, 4), one_hot(torch.arange(64) % 2, 4)), 1)
    coin = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]).expand(64, 1, 4)  # uses three, and tells nothing
    q = torch.cat((q, coin), 1)
    for _ in range(600):
        model.end(q, None)
    found = {name: float(value) for name, value in model.report().items()}
    for i, expected in enumerate((4, 2, 3)):
        assert found[f"perplexity_{i}"] == pytest.approx(expected, abs=0.01)
    assert found["perplexity"] == pytest.approx(3, abs=0.01)
    assert found["least_informed_perplexity"] == pytest.approx(3, abs=0.01)
    assert found["least_information"] == pytest.approx(0, abs=0.01)
    assert found["information"] == pytest.approx(2 + 1 + 0, abs=0.02)
    many = make(m=40, k=4).report()
    assert sum(name.startswith("perplexity_") for name in many) == 16


@pytest.mark.parametrize("accumulate", [1, 4])
def test_running_means_forget_by_updates_and_not_by_losses(accumulate):
    model = make(m=2, k=4, updates=10, accumulate=accumulate, labels=3)
    q = nl.Rng(0).normal((60, 2, 4)).softmax(-1)
    labels = torch.arange(60) % 3
    joint = torch.stack([q[labels == j].sum(0) / 60 for j in range(3)], -1)
    doubt = -(q * q.log()).sum(-1).mean(0)
    begun = (1 / 4, math.log(4), 1 / 12)  # shares alike, and all the doubt there is
    updates = 7
    for _ in range(updates * accumulate):
        model.end(q, labels)
    left = (1 - 0.02 / accumulate) ** (updates * accumulate)  # all but 0.98 ** 7
    assert left == pytest.approx(0.98**7, rel=2e-3)
    found = (model.usage, model.doubt, model.by_label)
    for value, old, new in zip(found, begun, (q.mean(0), doubt, joint), strict=True):
        torch.testing.assert_close(value, new + left * (old - new), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.by_label.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(model.by_label.sum(-1), model.usage)


def test_oracle_codes_are_draws_of_the_encoder_or_its_mode():
    model = shaken(make())
    n = 20000
    clean = CLEAN[:1].expand(n, 2)
    drawn = one_hot(model.encode(clean, nl.Rng(0).samples(n)), 4).mean(0)
    p = model.logits(CLEAN[:1]).softmax(-1)[0]
    assert ((drawn - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
    assert torch.equal(model.encode(CLEAN), model.logits(CLEAN).argmax(-1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="drop must be in"):
        make(drop=1.5)
    with pytest.raises(ValueError, match="k >= 1"):
        make(k=0)
    with pytest.raises(ValueError, match=r"every >= 1, got below 3.0, every 50$"):
        Restart(3.0)
    model = make()
    other = Latent(model.denoiser, model.encoder, m=2, k=5, updates=1)
    with pytest.raises(ValueError, match=r"expected \(24, 2, 5\) for m 2 and k 5"):
        other.logits(CLEAN)
    with pytest.raises(ValueError, match="this model has 2 a sample"):
        make().given(torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(TypeError, match="trains a Latent, not a Preconditioned"):
        latent_loss(make().denoiser, DIFFUSION, CLEAN, T, None, nl.Rng(0))
