"""Structures from end to end: networks, subspaces, preconditioning, solvers and data together."""

import math

import pytest
import torch
from oracles import F64

from noiseloom.conditioning import SelfConditioned
from noiseloom.data import benzenoids, snap
from noiseloom.denoiser import Preconditioned, PreconditionedParts, SigmoidHead, SoftmaxHead
from noiseloom.diffusion import (
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    Symmetric,
    Whole,
    ZeroCentre,
)
from noiseloom.encodings import Bits, OneHot
from noiseloom.nets import EGNN, GraphTransformer, PointEncoder
from noiseloom.noise import EDM, Cosine
from noiseloom.objective import denoising_loss, edm_weight, log_normal_times, v_weight
from noiseloom.plan import SamplingPlan
from noiseloom.plan_parts import PartsPlan
from noiseloom.preconditioning import Preconditioning
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, sample

B, N = 3, 5
MASK = torch.arange(N) < torch.tensor([5, 3, 4])[:, None]
PAIRS = MASK[:, :, None] & MASK[:, None] & ~torch.eye(N, dtype=torch.bool)
SCHEDULE = EDM(20.0)
POINTS = GaussianDiffusion(SCHEDULE, ZeroCentre())


def awake(network, seed=1, std=0.15):
    with Rng(seed).torch(), torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=std)
    return network.double()


def turn(determinant=-1):
    q, r = torch.linalg.qr(Rng(5).normal((3, 3), F64))
    q = q * r.diagonal().sign()
    return q * (torch.linalg.det(q).sign() * determinant)


@pytest.mark.parametrize("solver", [ancestral(), heun(1.5), dpm_solver_pp_2m()])
@pytest.mark.parametrize("self_conditioned", [False, True])
def test_samples_turn_with_their_noise(solver, self_conditioned):
    """Check 13's equivariance without guidance: every deterministic solver commutes with O(3)."""
    network = awake(EGNN(width=8, depth=2, self_conditioning=self_conditioned))
    denoiser = Preconditioned(network, SCHEDULE, target="edm", data_std=1.5)
    denoiser = SelfConditioned(denoiser) if self_conditioned else denoiser
    diffusion, q = POINTS.on(MASK), turn()
    x = diffusion.prior(torch.empty(B, N, 3, dtype=F64), Rng(0))
    plan = SamplingPlan.karras(6, SCHEDULE, sigma_max=20.0)

    def run(start):
        steps = sample(
            denoiser, diffusion, plan, start, cond={"mask": MASK}, rng=Rng(1), solver=solver
        )
        return final(steps).x

    found, expected = run(x @ q), run(x) @ q
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert expected[MASK].abs().min() > 1e-4
    assert not expected[~MASK].any()
    assert expected.sum(1).abs().max() < 1e-10


def molecule_parts():
    """Positions by EDM's rule, and kinds as one-hot codes with a softmax."""
    codec = OneHot(3)
    parts = {
        "positions": Preconditioning(SCHEDULE, "edm", data_std=1.5),
        "kinds": Preconditioning(Cosine(), "x0", SoftmaxHead(codec.table)),
    }
    diffusion = ProductDiffusion(
        {
            "positions": GaussianDiffusion(SCHEDULE, ZeroCentre()),
            "kinds": GaussianDiffusion(Cosine(), Whole()),
        }
    )
    draw = Rng(3)
    clean = {
        "positions": draw.fold("positions").normal((B, N, 3), F64),
        "kinds": codec.encode(draw.fold("kinds").integers(3, (B, N))).double(),
    }
    network = EGNN(3, 3, width=8, depth=2, self_conditioning=True)
    return network, parts, diffusion, clean, {"positions": edm_weight(1.5), "kinds": v_weight}


def graph_parts():
    """Nodes as one-hot codes by the error of v, bond orders as bits."""
    codec = Bits(4)
    parts = {
        "nodes": Preconditioning(Cosine(), "v"),
        "edges": Preconditioning(Cosine(), "x0", SigmoidHead()),
    }
    diffusion = ProductDiffusion(
        {
            "nodes": GaussianDiffusion(Cosine(), Whole()),
            "edges": GaussianDiffusion(Cosine(), Symmetric()),
        }
    )
    draw = Rng(3)
    order = draw.fold("edges").integers(4, (B, N, N))
    order = torch.minimum(order, order.transpose(1, 2))
    clean = {
        "nodes": draw.fold("nodes").normal((B, N, 4), F64),
        "edges": codec.encode(order).double(),
    }
    network = GraphTransformer(
        4, 2, width=12, edge_width=6, depth=2, heads=3, self_conditioning=True
    )
    return network, parts, diffusion, clean, v_weight


@pytest.mark.parametrize("make", [molecule_parts, graph_parts])
def test_parts_are_learnt_and_sampled_with_padding_and_times_of_their_own(make):
    network, parts, diffusion, clean, weight = make()
    network = awake(network, std=0.1)
    denoiser = SelfConditioned(PreconditionedParts(network, parts))
    diffusion = diffusion.on(MASK)
    clean = {name: own.subspace.project(clean[name]) for name, own in diffusion.parts.items()}
    first, second = clean
    pair = torch.linspace(0.2, 0.8, B, dtype=F64)
    t = {first: pair, second: 1 - pair}
    given = {"mask": MASK}

    def loss():
        return denoising_loss(
            denoiser, diffusion, clean, t, given, Rng(4), weight=weight, self_conditioning=0.5
        )

    before = {name: float(v.mean().detach()) for name, v in loss().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(30):
        optimiser.zero_grad()
        sum(v.mean() for v in loss().values()).backward()
        optimiser.step()
    after = {name: float(v.mean().detach()) for name, v in loss().items()}
    assert all(after[name] < before[name] for name in clean)

    plan = PartsPlan.in_turn({n: SamplingPlan.uniform(4) for n in clean})
    x = diffusion.prior(clean, Rng(5))
    last = final(sample(denoiser, diffusion, plan, x, cond=given, rng=Rng(6), solver=ancestral(1)))
    for name, value in {**last.result, "state": last.x[first]}.items():
        if name == "edges":
            assert torch.equal(value, value.transpose(1, 2))
            assert not value[~PAIRS].any()
            assert value[PAIRS].all()
        else:
            assert not value[~MASK].any()
            assert value[MASK].abs().sum(-1).min() > 0


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_encoders_are_guides_whose_gradients_stay_in_the_subspace(level):
    """The tilt of an invariant target turns with the state, and has no centre."""
    encoder = awake(PointEncoder(width=8, depth=2), std=0.3)
    diffusion, t = POINTS.on(MASK), torch.tensor(0.6, dtype=F64)
    x = diffusion.prior(torch.empty(B, N, 3, dtype=F64), Rng(0)) / 20

    def tilted(state):
        state = state.detach().requires_grad_()
        value = encoder(state, torch.full((B,), level), {"mask": MASK}).sum()
        (grad,) = torch.autograd.grad(value, state)
        return diffusion.tilt(Prediction(torch.zeros_like(state)), grad, state, t).mean

    expected, found = tilted(x), tilted(x @ turn())
    torch.testing.assert_close(found, expected @ turn(), rtol=0, atol=1e-9)
    assert expected.sum(1).abs().max() < 1e-10
    assert not expected[~MASK].any()
    assert expected[MASK].abs().max() > 1e-4


def learn(data, steps, batch=64, width=64, depth=4, rate=2e-3):
    """Train an equivariant denoiser of rings; the averaged denoiser and what it has cost."""
    everything = data[torch.arange(len(data))]
    points, mask = everything["positions"], everything["mask"]
    std = float((points.square().sum() / (3 * mask.sum())).sqrt())
    with Rng(0).torch():
        network = EGNN(width=width, depth=depth, self_conditioning=True)
    denoiser = SelfConditioned(Preconditioned(network, SCHEDULE, target="edm", data_std=std))
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    mean = {k: v.clone() for k, v in network.state_dict().items()}
    losses = []
    for step in range(steps):
        rng = Rng(1).fold("step", step)
        some = data[rng.fold("rows").integers(len(data), (batch,))]
        t = log_normal_times((batch,), rng.fold("t"), SCHEDULE, mean=math.log(std) - 1, std=1.2)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 50, 2.5 * (1 - step / steps))
        loss = denoising_loss(
            denoiser,
            POINTS.on(some["mask"]),
            some["positions"],
            t,
            {"mask": some["mask"]},
            rng,
            weight=edm_weight(std),
            self_conditioning=0.9,
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                mean[name].lerp_(value, 1 - min(0.995, (step + 1) / (step + 10)))
    network.load_state_dict(mean)
    return denoiser.eval(), losses


def draw(denoiser, data, count, steps=50):
    rows = Rng(7).integers(len(data), (count,))
    batch = data[rows]
    diffusion = POINTS.on(batch["mask"])
    x = diffusion.prior(batch["positions"], Rng(8).samples(count))
    plan = SamplingPlan.karras(steps, SCHEDULE, sigma_min=0.02, sigma_max=20.0)
    run = sample(
        denoiser,
        diffusion,
        plan,
        x,
        cond={"mask": batch["mask"]},
        rng=Rng(9).samples(count),
        solver=ancestral(1.0),
    )
    return snap(final(run).result, batch["mask"])


def test_training_finds_the_shape_of_three_rings():
    """Of 9 coordinates the centre is known, and three say how the molecule lies: 1/3 of the noise.

    Anthracene and phenanthrene at sigma 0.1, which tells them apart. A network that says 0 leaves
    2/3, and 0.4 % less for what the data's deviation says.
    """
    data = benzenoids(3)
    batch = data[torch.arange(128) % 2]
    t = SCHEDULE.time(torch.full((128,), -2 * math.log(0.1)))

    def share(denoiser):
        with torch.no_grad():
            loss = denoising_loss(
                denoiser,
                POINTS,
                batch["positions"],
                t,
                {"mask": batch["mask"]},
                Rng(3),
                self_conditioning=1.0,
            )
        return float(loss.mean()) / 0.1**2

    before, after = (share(learn(data, n, batch=32, width=32, depth=3)[0]) for n in (1, 150))
    assert before == pytest.approx(2 / 3, abs=0.1)
    assert 0.3 < after < 0.5


@pytest.mark.slow
def test_two_minutes_of_training_make_valid_and_various_structures():
    data = benzenoids(range(4, 7))
    denoiser, _ = learn(data, 3000)
    found = draw(denoiser, data, 256)
    names = {key for key in found.keys if key is not None}
    assert found.valid.double().mean() > 0.5
    assert len(names) > 30
    assert names <= set(data.keys)  # there are no others of four to six rings
