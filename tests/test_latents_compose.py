"""Latents around other systems: analog bits, heads, self-conditioning, a time per token, guidance.

The wrapper and the loss know nothing of what they wrap, so every test here is of all systems: what
a latent adds is that the denoiser is told codes, and that its loss reaches the encoder, once.
"""

import contextlib
from dataclasses import dataclass, replace

import pytest
import torch
from oracles import F64, Gaussian
from torch import Tensor, nn

import noiseloom as nl
from noiseloom.carry import scatter
from noiseloom.denoiser import SigmoidHead, SoftmaxHead
from noiseloom.diffusion import Prediction
from noiseloom.latents import Latent, drop_codes, gumbel_softmax, latent_loss, one_hot
from noiseloom.nets import DiT, ImageEncoder, SequenceEncoder, Transformer, UNet
from noiseloom.objective import denoising_loss, self_conditioned_rows
from noiseloom.sampling import ancestral, final, heun, sample
from noiseloom.shapes import align

SCHEDULE = nl.Cosine()
DIFFUSION = nl.GaussianDiffusion(SCHEDULE)
B, M, K = 12, 2, 4
SMALL = {"width": 8, "depth": 1, "heads": 2}
CODEC = nl.Bits(16, "gray", axis=1)


@dataclass(frozen=True)
class System:
    """A denoiser of bits or tokens that reads codes, an encoder of its states, and a batch."""

    name: str
    head: str = "linear"
    kind: str = "estimate"

    def __str__(self):
        return f"{self.name}-{self.head}-{self.kind}"

    @property
    def clean(self):
        if self.name == "tokens":
            return nl.Rng(0).normal((B, 5, 3))
        return CODEC.encode(nl.Rng(0).integers(16, (B, 1, 4, 4)))

    @property
    def t(self):
        return nl.Rng(1).uniform((B, 5) if self.name == "tokens" else (B,))

    def denoiser(self, codes=(M, K)):
        head = {"sigmoid": SigmoidHead(), "softmax": SoftmaxHead(CODEC.table, axis=1)}.get(
            self.head
        )
        outputs = head.outputs(4) if head else 4
        options = {"self_conditioning": True} if self.kind == "estimate" else {}
        if self.name != "unet" and self.kind == "hidden":
            options = {"hidden_conditioning": True}
        with nl.Rng(0).torch():
            if self.name == "unet":
                stages = {"width": 8, "multipliers": (1, 2), "attention": (False, False)}
                network = UNet(4, outputs, **stages, blocks=1, codes=codes, **options)
            elif self.name == "dit":
                sizes = {"size": (4, 4), "patch": 2}
                network = DiT(4, outputs, **sizes, **SMALL, codes=codes, **options)
            else:
                network = Transformer(3, 3, max_length=5, **SMALL, codes=codes, **options)
        denoiser = nl.Preconditioned(shaken(network), SCHEDULE, head=head)
        limit = 1.0 if self.kind == "estimate" else None
        return nl.SelfConditioned(denoiser, kind=self.kind, limit=limit)

    def latent(self, dropout=0.0, **options):
        with nl.Rng(1).torch():
            if self.name == "tokens":
                encoder = SequenceEncoder(3, M, K, **SMALL, dropout=dropout)
            else:
                encoder = ImageEncoder(4, M, K, patch=2, **SMALL, dropout=dropout)
        return Latent(self.denoiser(), encoder, m=M, k=K, **{"updates": 10, **options})

    def loss(self, model, rng=2, **options):
        rng = nl.Rng(rng) if isinstance(rng, int) else rng
        options = {"self_conditioning": 0.5, "cross_entropy": self.head != "linear", **options}
        return latent_loss(model, DIFFUSION, self.clean, self.t, None, rng, **options)


SYSTEMS = [
    System("unet"),
    System("unet", head="sigmoid"),
    System("unet", head="softmax"),
    System("dit", kind="hidden", head="sigmoid"),
    System("tokens"),
    System("tokens", kind="hidden"),
]
each = pytest.mark.parametrize("system", SYSTEMS, ids=str)


def shaken(module):
    """Weights far from their start, where some are 0."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.2 * nl.Rng(1).fold("shake", i).normal(parameter.shape)
    return module


def by_hand(system, model, leak=False):
    """Algorithm 1 of both papers at once; with `leak` the first pass has gradients too."""
    rng, clean, t = nl.Rng(2).samples(B), system.clean, system.t
    codes = gumbel_softmax(model.encoder(clean), 1.0, rng.fold("codes"))
    codes, _ = drop_codes(codes, model.drop, rng.fold("code drop"))
    x, rows = (
        DIFFUSION.corrupt(clean, t, rng.fold("noise")),
        self_conditioned_rows(torch.arange(B), 0.5),
    )
    with contextlib.nullcontext() if leak else torch.no_grad():
        _, carry = model.denoiser(x[rows], t[rows], {"codes": codes[rows]})
    prediction, _ = model.denoiser(x, t, {"codes": codes}, scatter(carry, rows, B))
    if system.head == "linear":
        prediction = replace(prediction, logits=None)
    return DIFFUSION.loss(prediction, clean, x, align(t, clean)).flatten(1).mean(1)


@each
def test_the_encoder_learns_from_the_second_pass_alone(system):
    found = []
    for leak in (None, False, True):
        model = system.latent(drop=0.3)
        loss = system.loss(model) if leak is None else by_hand(system, model, leak)
        loss.mean().backward()
        found.append((loss, [p.grad for p in model.parameters()]))
    (loss, own), (expected, once), (same, twice) = found
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(same, expected)
    assert all(g is not None and g.any() for g in own)
    torch.testing.assert_close(own, once, rtol=1e-4, atol=1e-7)
    encoder = len([*model.encoder.parameters()])
    off = [(a - b).abs().max() / b.abs().max() for a, b in zip(own, twice, strict=True)]
    assert min(off[-encoder:]) > 1e-3


@each
def test_with_drop_rate_1_it_is_the_loss_of_a_denoiser_without_codes(system):
    model = system.latent(drop=1.0)
    losses = []
    for _ in range(2):
        model.zero_grad()
        losses.append(system.loss(model))
        losses[-1].mean().backward()
        assert not any(p.grad.any() for p in model.encoder.parameters())
        shaken(model.encoder)
    assert torch.equal(*losses)
    options = {"self_conditioning": 0.5, "cross_entropy": system.head != "linear"}
    args = (DIFFUSION, system.clean, system.t, None, nl.Rng(2))
    assert torch.equal(denoising_loss(model.denoiser, *args, **options), losses[0])
    model.drop = 0.0
    assert (system.loss(model) - losses[0]).abs().max() > 1e-4


@each
def test_a_sample_has_the_same_loss_in_any_batch(system):
    model = system.latent(dropout=0.4).train()
    whole, rows = system.loss(model), torch.tensor([7, 2, 3])
    part = latent_loss(
        model,
        DIFFUSION,
        system.clean[rows],
        system.t[rows],
        None,
        nl.Rng(2),
        rows=rows,
        self_conditioning=0.5,
        cross_entropy=system.head != "linear",
    )
    torch.testing.assert_close(part, whole[rows])


def test_dropout_in_an_encoder_is_drawn_once_a_step_apart_from_the_denoisers():
    system = System("tokens")
    model, plain = system.latent(dropout=0.4), system.latent()
    seen, dropped = [], system.loss(model)
    model.denoiser.denoiser.network.register_forward_pre_hook(lambda _, args: seen.append(args[2]))
    model.encoder.register_forward_pre_hook(
        lambda _, args, options: seen.append(options["cond"]), with_kwargs=True
    )
    assert torch.equal(system.loss(model), dropped)
    encoder, first, second = (cond["dropout"] for cond in seen)
    assert len({*encoder.tolist(), *first.tolist(), *second.tolist()}) == B + B // 2 + B
    assert not torch.equal(system.loss(plain), dropped)
    model.eval()
    assert torch.equal(system.loss(model), system.loss(plain))
    assert torch.equal(model.encode(system.clean), plain.encode(system.clean))


class Spy(nn.Module):
    """A denoiser that hands on, and keeps, what it was given."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.given = inner, []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append((cond, torch.as_tensor(t).clone()))
        return self.inner(x, t, cond, carry, rng)


PLANS = {
    "full sequence": nl.SamplingPlan.full_sequence(4, 5),
    "autoregressive": nl.SamplingPlan.autoregressive(4, 5),
    "pyramid": nl.SamplingPlan.pyramid(4, 5, 1.0),
    "chunked": nl.SamplingPlan.chunked(4, 5, 2),
}
plans = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@plans
@pytest.mark.parametrize("kind", ["estimate", "hidden"])
def test_tokens_move_by_any_plan_and_codes_stay(plan, kind):
    system = System("tokens", kind=kind)
    model = system.latent().eval()
    model.denoiser.denoiser = spy = Spy(model.denoiser.denoiser)
    codes = model.given(model.encode(system.clean, nl.Rng(5)))
    start, rng = DIFFUSION.prior((B, 5, 3), nl.Rng(3)), nl.Rng(4).samples(B)
    settings = {"solver": ancestral(0.5)}
    with torch.no_grad():
        whole = final(
            sample(model, DIFFUSION, plan, start, cond={"codes": codes}, rng=rng, **settings)
        )
        assert len(spy.given) == len(plan)
        assert all(cond["codes"] is codes for cond, _ in spy.given)
        assert all(kind in cond for cond, _ in spy.given[1:])
        part = {"codes": codes[3:5]}
        some = sample(
            model, DIFFUSION, plan, start[3:5], cond=part, rng=rng.rows([3, 4]), **settings
        )
        torch.testing.assert_close(final(some).x, whole.x[3:5])
        other = sample(model, DIFFUSION, plan, start, cond={}, rng=rng, **settings)
    assert (final(other).x - whole.x).flatten(1).abs().amax(1).min() > 1e-3


class Centred(nn.Module):
    """The exact denoiser of tokens N(centre(codes), 1 / 2), independent given the codes."""

    def __init__(self):
        super().__init__()
        self.code = nl.Rng(7).normal((M, K), F64)

    def forward(self, x, t, cond=None, carry=None, rng=None):
        codes = (cond or {}).get("codes")
        centre = 0.0 if codes is None else (codes * self.code).sum((1, 2))[:, None, None]
        return Gaussian(SCHEDULE, 0.5, centre)(x, t)


@plans
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_given_the_codes_tokens_are_independent_so_all_plans_draw_the_same(plan, scale):
    codes = one_hot(nl.Rng(5).integers(K, (B, M)), K).double()
    model = nl.ClassifierFree(Centred(), scale, drop=("codes",))
    start = nl.Rng(3).normal((B, 5, 3), F64)
    cond = {"codes": codes}
    x = final(sample(model, DIFFUSION, plan, start, cond=cond, rng=nl.Rng(0))).x
    uniform = nl.SamplingPlan.uniform(4)
    each = [
        final(sample(model, DIFFUSION, uniform, token, cond=cond, rng=nl.Rng(0))).x
        for token in start.split(1, 1)
    ]
    torch.testing.assert_close(x, torch.cat(each, 1))
    centre = (codes * model.denoiser.code).sum((1, 2))
    none = final(sample(model, DIFFUSION, plan, start, cond={}, rng=nl.Rng(0))).x
    shift = (x - none).flatten(1)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))
    slope = shift[:, 0] / centre
    torch.testing.assert_close(slope, slope[:1].expand_as(slope))
    assert slope[0] > 0.5


class Toy(nn.Module):
    """mean = x / 3 + estimate / 2 + f(codes, label), where absent is 0 in each part of f."""

    def __init__(self):
        super().__init__()
        self.given, self.code, self.label = (
            [],
            nl.Rng(7).normal((8,), F64),
            torch.tensor([0.4, -0.9]),
        )

    def f(self, code, label):
        """A share of each, and of both together."""
        return code + label + code * label

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.given.append(cond)
        codes, label = cond.get("codes"), cond.get("label")
        code = torch.zeros(len(x), dtype=F64) if codes is None else codes.flatten(1) @ self.code
        shift = torch.zeros(len(x), dtype=F64) if label is None else self.label.double()[label]
        mean = x / 3 + self.f(code, shift)[:, None] + cond["estimate"] / 2
        return Prediction(mean), dict(carry or {})


def ddim(x: Tensor, mean: Tensor, t: Tensor, s: Tensor) -> Tensor:
    (alpha, sigma), (alpha_s, sigma_s) = SCHEDULE(t), SCHEDULE(s)
    return alpha_s * mean + sigma_s * (x - alpha * mean) / sigma


def guided(inner, scales, order):
    for name in order:
        inner = nl.ClassifierFree(inner, scales[name], drop=(name,))
    return inner


ORDERS = pytest.mark.parametrize("order", [("codes", "label"), ("label", "codes")], ids="/".join)
SCALES = [
    {"codes": 2.0, "label": 1.5},
    {"codes": 1.0, "label": 3.0},
    {"codes": 4.0, "label": 0.0},
    {"codes": 1.0, "label": 1.0},
]
COND = {
    "codes": one_hot(torch.arange(2 * B).reshape(B, 2) % K, K).double(),
    "label": torch.arange(B) % 2,
}
PLAN = nl.SamplingPlan.uniform(5)


@ORDERS
@pytest.mark.parametrize("scales", SCALES, ids=lambda s: f"{s['codes']:g}-{s['label']:g}")
def test_guidance_on_codes_and_classes_in_closed_form_with_one_estimate_for_all(scales, order):
    """w_c code + w_l label + w_c w_l code label: what both together say has both scales."""
    toy, (w, v) = Toy(), scales.values()
    model = nl.SelfConditioned(guided(toy, scales, order))
    start = nl.Rng(3).normal((B, 3), F64)
    steps = list(sample(model, DIFFUSION, PLAN, start, cond=COND, rng=nl.Rng(0)))
    code, label = COND["codes"].flatten(1) @ toy.code, toy.label.double()[COND["label"]]
    shift = (w * code + v * label + w * v * code * label)[:, None]
    x, estimate = start, torch.zeros_like(start)
    for t, s, step in zip(PLAN.t, PLAN.s, steps, strict=True):
        estimate = x / 3 + shift + estimate / 2
        x = ddim(x, estimate, t, s)
        torch.testing.assert_close(step.x, x)
    calls = 1
    for scale in scales.values():
        calls *= 1 if scale in (0, 1) else 2
    assert len(toy.given) == calls * len(PLAN)
    for i in range(0, len(toy.given), calls):
        branches = toy.given[i : i + calls]
        assert all(branch["estimate"] is branches[0]["estimate"] for branch in branches)
        told = {tuple(sorted({*branch} - {"estimate"})) for branch in branches}
        assert len(told) == calls


@ORDERS
@pytest.mark.parametrize("solver", [None, heun()], ids=["ddim", "heun"])
def test_outside_self_conditioning_each_branch_has_an_estimate_of_its_own(order, solver):
    scales = {"codes": 2.0, "label": 1.5}
    start = nl.Rng(3).normal((B, 3), F64)
    found = []
    for limit in (None, 0.3):
        toy = Toy()
        model = guided(nl.SelfConditioned(toy, limit=limit), scales, order)
        settings = {"cond": COND, "rng": nl.Rng(0), "solver": solver}
        found.append(final(sample(model, DIFFUSION, PLAN, start, **settings)).x)
        assert len({id(branch["estimate"]) for branch in toy.given[-4:]}) == 4
        shared = nl.SelfConditioned(guided(Toy(), scales, order), limit=limit)
        found.append(final(sample(shared, DIFFUSION, PLAN, start, **settings)).x)
    own, shared, own_limited, shared_limited = found
    # What is affine commutes with guidance; what is clipped does not.
    torch.testing.assert_close(own, shared)
    assert (own_limited - shared_limited).abs().max() > 0.01


def test_dropping_both_at_once_has_one_scale_for_all():
    toy, start = Toy(), nl.Rng(3).normal((B, 3), F64)
    cond = {**COND, "estimate": torch.zeros_like(start)}
    mean = nl.ClassifierFree(toy, 2.5, drop=("codes", "label"))(start, PLAN.t[2], cond)[0].mean
    code, label = COND["codes"].flatten(1) @ toy.code, toy.label.double()[COND["label"]]
    torch.testing.assert_close(mean, start / 3 + 2.5 * toy.f(code, label)[:, None])
    assert len(toy.given) == 2
