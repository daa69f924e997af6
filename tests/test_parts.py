"""States of several parts: preconditioned, self-conditioned and learnt as each part is alone."""

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.denoiser import (
    Preconditioned,
    PreconditionedParts,
    Projected,
    SigmoidHead,
    SoftmaxHead,
)
from noiseloom.diffusion import GaussianDiffusion, ProductDiffusion, Symmetric, Whole
from noiseloom.noise import EDM, Cosine
from noiseloom.objective import denoising_loss, edm_weight, self_conditioned_rows, v_weight
from noiseloom.plan import SamplingPlan
from noiseloom.preconditioning import Preconditioning
from noiseloom.rng import Rng
from noiseloom.sampling import final, sample

B, N = 6, 4
HOW = {
    "nodes": Preconditioning(Cosine(), "x0", SigmoidHead(), clock=8.0),
    "edges": Preconditioning(EDM(), "edm", data_std=0.7),
}
DIFFUSION = ProductDiffusion(
    {
        "nodes": GaussianDiffusion(Cosine(), Whole()),
        "edges": GaussianDiffusion(EDM(), Symmetric()),
    }
)
CLEAN = {
    "nodes": Rng(0).normal((B, N, 3), F64).sign(),
    "edges": Symmetric().project(Rng(1).normal((B, N, N, 2), F64)),
}
X = DIFFUSION.corrupt(CLEAN, torch.full((B,), 0.4, dtype=F64), Rng(2))
NODE_TIMES = torch.linspace(0.1, 0.9, B * N, dtype=F64).reshape(B, N)
EDGE_TIMES = (NODE_TIMES[:, :, None] + NODE_TIMES[:, None]) / 2
TIMES = {
    "one": torch.tensor(0.4, dtype=F64),
    "per sample": torch.linspace(0.1, 0.9, B, dtype=F64),
    "per part": {"nodes": torch.tensor(0.2, dtype=F64), "edges": torch.tensor(0.7, dtype=F64)},
    "per entry": {"nodes": NODE_TIMES, "edges": EDGE_TIMES},
}
times = pytest.mark.parametrize("t", TIMES.values(), ids=TIMES)


class Alone(nn.Module):
    """A network of one part, which reads its clock and its estimate."""

    def __init__(self, features):
        super().__init__()
        with Rng(3).torch():
            self.layer = nn.Linear(2 * features, features, dtype=F64)

    def forward(self, x, log_snr, cond=None):
        given = (cond or {}).get("estimate")
        y = self.layer(torch.cat((x, torch.zeros_like(x) if given is None else given), -1))
        return y.tanh() + 0.1 * log_snr.reshape(log_snr.shape + (1,) * (x.ndim - log_snr.ndim))


class Beside(nn.Module):
    """The networks of the parts side by side, and for each what the mean of the others is."""

    def __init__(self, coupling=0.0):
        super().__init__()
        self.coupling = coupling
        self.nets = nn.ModuleDict({"nodes": Alone(3), "edges": Alone(2)})

    def forward(self, x, log_snr, cond=None):
        cond = cond or {}
        estimate = cond.get("estimate")
        said = {}
        for name, net in self.nets.items():
            own = None if estimate is None else {"estimate": estimate[name]}
            said[name] = net(x[name], log_snr[name], own)
        mean = sum(v.flatten(1).mean(1) for v in x.values()) * self.coupling
        return {k: v + mean.reshape(-1, *(1,) * (v.ndim - 1)) for k, v in said.items()}


def alone(network, name):
    """The denoiser of one part."""
    how = HOW[name]
    return Preconditioned(
        network.nets[name],
        how.schedule,
        target=how.target,
        head=how.head,
        data_std=how.data_std,
        clock=how.clock,
    )


@times
def test_parts_are_preconditioned_as_each_is_alone(t):
    network = Beside()
    said, carry = PreconditionedParts(network, HOW)(X, t, None, {"kept": X["nodes"]})
    assert carry["kept"] is X["nodes"]
    for name in HOW:
        own = t[name] if isinstance(t, dict) else t
        expected, _ = alone(network, name)(X[name], own)
        assert torch.equal(said[name].mean, expected.mean)
        assert (said[name].logits is None) == (expected.logits is None)


def test_one_part_sees_the_others():
    denoiser = PreconditionedParts(Beside(0.5), HOW)
    t = TIMES["per sample"]
    other = {**X, "nodes": X["nodes"] + 1}
    moved = denoiser(other, t)[0]["edges"].mean - denoiser(X, t)[0]["edges"].mean
    assert moved.abs().amin((1, 2, 3)).min() > 1e-6


@times
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_loss_of_parts_is_algorithm_1_of_each(t, rate):
    """By hand: one state, a first pass of some rows, and the error of each part by its weight."""
    denoiser = SelfConditioned(PreconditionedParts(Beside(), HOW))
    weight = {"nodes": v_weight, "edges": edm_weight(0.7)}
    loss = denoising_loss(
        denoiser, DIFFUSION, CLEAN, t, None, Rng(5), weight=weight, self_conditioning=rate
    )
    key = Rng(5).each("sample", torch.arange(B))
    x = DIFFUSION.corrupt(CLEAN, t, key.fold("noise"))
    chosen = self_conditioned_rows(torch.arange(B), rate)
    for name, how in HOW.items():
        own = t[name] if isinstance(t, dict) else t
        inner = alone(denoiser.denoiser.network, name)
        estimate = torch.zeros_like(x[name])
        estimate[chosen] = inner(x[name], own)[0].mean.detach()[chosen]
        mean = inner(x[name], own, {"estimate": estimate})[0].mean
        level = own.reshape(own.shape + (1,) * (mean.ndim - own.ndim))
        square = (mean - CLEAN[name]).square() * weight[name](how.schedule.log_snr(level))
        if name == "edges":  # none on the diagonal
            off = ~torch.eye(N, dtype=torch.bool)
            expected = square[:, off].flatten(1).mean(1)
            if own.ndim == 3:  # an entry of its own for each time, and those of the diagonal are 0
                expected = torch.where(off[..., None], square, 0).flatten(1).mean(1)
        else:
            expected = square.flatten(1).mean(1)
        assert loss[name].shape == (B,)
        torch.testing.assert_close(loss[name], expected)
    for value in loss.values():
        value.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in denoiser.parameters())


def test_what_counts_is_said_by_part():
    denoiser = PreconditionedParts(Beside(), HOW)
    t = {"nodes": NODE_TIMES, "edges": TIMES["one"]}
    mask = torch.arange(N) < torch.tensor([4, 3, 2, 1, 4, 2])[:, None]
    clean = {
        name: own.subspace.on(mask).project(CLEAN[name]) for name, own in DIFFUSION.parts.items()
    }
    loss = denoising_loss(
        denoiser, DIFFUSION.on(mask), clean, t, None, Rng(5), counted={"nodes": mask}
    )
    x = DIFFUSION.on(mask).corrupt(clean, t, Rng(5).each("sample", torch.arange(B)).fold("noise"))
    square = (denoiser(x, t)[0]["nodes"].mean - clean["nodes"]).square().mean(-1)
    expected = torch.where(mask, square, 0).sum(1) / mask.sum(1)
    torch.testing.assert_close(loss["nodes"], expected)


def test_estimates_travel_by_name_and_blend_with_momentum():
    inner = PreconditionedParts(Beside(), HOW)
    t = TIMES["one"]
    first, carry = SelfConditioned(inner, momentum=0.25, limit=0.5)(X, t)
    given = carry["self_conditioning"]["estimate"]
    for name, part in first.items():
        torch.testing.assert_close(given[name], 0.75 * part.mean.clamp(-0.5, 0.5))
    second, again = SelfConditioned(inner, momentum=0.25, limit=0.5)(X, t, None, carry)
    assert torch.equal(second["edges"].mean, inner(X, t, {"estimate": given})[0]["edges"].mean)
    for name, part in second.items():
        expected = 0.75 * part.mean.clamp(-0.5, 0.5) + 0.25 * given[name]
        torch.testing.assert_close(again["self_conditioning"]["estimate"][name], expected)
    with pytest.raises(ValueError, match="no hidden state in common"):
        SelfConditioned(inner, kind="hidden")(X, t)


def test_parts_are_sampled_with_their_estimates():
    denoiser = SelfConditioned(PreconditionedParts(Beside(0.5), HOW))
    x = DIFFUSION.prior(X, Rng(0))
    last = final(sample(denoiser, DIFFUSION, SamplingPlan.uniform(4), x, rng=Rng(1)))
    assert last.carry["self_conditioning"]["estimate"].keys() == X.keys()
    assert torch.equal(last.x["edges"], last.x["edges"].transpose(1, 2))


def test_other_parts_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        PreconditionedParts(Beside(), {})
    denoiser = PreconditionedParts(Beside(), HOW)
    with pytest.raises(ValueError, match="expected the parts"):
        denoiser({"nodes": X["nodes"]}, TIMES["one"])
    with pytest.raises(ValueError, match="given by part, as a dict"):
        denoiser(X, NODE_TIMES)


# What all parts have in common, and where their estimates are.


def test_a_schedule_is_that_of_all_parts_or_of_none():
    own = GaussianDiffusion(Cosine())
    assert ProductDiffusion({"a": own, "b": own}).schedule == Cosine()
    with pytest.raises(ValueError, match="schedules of their own"):
        _ = DIFFUSION.schedule


def test_projected_means_are_where_the_states_are():
    """Of a softmax head, which says something of padding and of the diagonal; logits stay."""
    mask = torch.arange(N) < torch.tensor([1, 2, 3, 4, 4, 2])[:, None]
    codes = torch.arange(3.0, dtype=F64)[:, None]
    how = {
        "nodes": Preconditioning(Cosine(), "x0", SoftmaxHead(torch.eye(3, dtype=F64))),
        "edges": Preconditioning(Cosine(), "x0", SoftmaxHead(codes)),
    }

    class Logits(nn.Module):
        def forward(self, x, log_snr, cond=None):
            draw = Rng(7)
            nodes = draw.fold("nodes").normal((B, N, 3), F64)
            return {"nodes": nodes, "edges": draw.fold("edges").normal((B, N, N, 3), F64)}

    space = ProductDiffusion(
        {"nodes": GaussianDiffusion(Cosine()), "edges": GaussianDiffusion(Cosine(), Symmetric())}
    )
    plain = PreconditionedParts(Logits(), how)
    x = space.on(mask).prior({"nodes": X["nodes"], "edges": X["edges"][..., :1]}, Rng(1))
    t = torch.full((B,), 0.5, dtype=F64)
    bare, _ = plain(x, t, {"mask": mask})
    said, _ = Projected(plain, space)(x, t, {"mask": mask})
    for name, own in space.on(mask).parts.items():
        expected = own.subspace.project(bare[name].mean)
        assert torch.equal(said[name].mean, expected)
        assert not torch.equal(said[name].mean, bare[name].mean)
        assert torch.equal(said[name].logits, bare[name].logits)
    one = Projected(Preconditioned(Alone(3), Cosine()), GaussianDiffusion(Cosine()))
    alone, _ = one(X["nodes"], t, {"mask": mask})
    assert not alone.mean[~mask].any()
    assert alone.mean[mask].all()


def test_cross_entropy_is_of_the_nearest_code_whatever_its_norm():
    """Codes 0, 1, 2 of one entry: the class of 0 is the first, and of 1.2 the second."""
    codes = torch.arange(3.0, dtype=F64)[:, None]
    logits = torch.tensor([[0.5, -1.0, 2.0]], dtype=F64).expand(3, 1, 3)
    said = SoftmaxHead(codes)(logits.flatten(1))
    clean = torch.tensor([[0.0], [1.2], [2.0]], dtype=F64)
    space, t = GaussianDiffusion(Cosine()), torch.full((3,), 0.3, dtype=F64)
    found = space.loss(said, clean, clean, t).flatten()
    torch.testing.assert_close(found, -logits[0, 0].log_softmax(0))
