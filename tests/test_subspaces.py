"""Padding: states stay in their subspaces through every method, and padding changes nothing.

Check 12: the mean of the points stays 0, padded nodes stay 0, adjacencies stay symmetric with a
zero diagonal, and at t -> 0 a noisy state is the clean one.
"""

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom.bound import nats_bound
from noiseloom.diffusion import (
    CategoricalDiffusion,
    GaussianDiffusion,
    Prediction,
    ProductDiffusion,
    Symmetric,
    Whole,
    ZeroCentre,
)
from noiseloom.langevin import corrected
from noiseloom.likelihood import flow_log_likelihood
from noiseloom.noise import EDM, Cosine, RectifiedFlow
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled, sample
from noiseloom.shapes import mean_like

COUNTS = torch.tensor([5, 2, 1, 4])
B, N = len(COUNTS), 5
MASK = torch.arange(N) < COUNTS[:, None]
PAIRS = MASK[:, :, None] & MASK[:, None] & ~torch.eye(N, dtype=torch.bool)
POINTS = ProductDiffusion(
    {
        "positions": GaussianDiffusion(EDM(), ZeroCentre()),
        "kinds": GaussianDiffusion(Cosine(), Whole()),
    }
)
GRAPHS = ProductDiffusion(
    {
        "nodes": GaussianDiffusion(Cosine(), Whole()),
        "edges": GaussianDiffusion(RectifiedFlow(), Symmetric()),
    }
)
SHAPES = {"positions": (3,), "kinds": (2,), "nodes": (4,), "edges": (N, 2)}
SPACES = {"positions": ZeroCentre, "kinds": Whole, "nodes": Whole, "edges": Symmetric}
both = pytest.mark.parametrize("diffusion", [POINTS, GRAPHS], ids=["points", "graphs"])


def wild(diffusion, name, scale=1.0):
    """Numbers anywhere, of each part."""
    return {
        part: scale * Rng(0).fold(name).fold(part).normal((B, N, *SHAPES[part]), F64)
        for part in diffusion.parts
    }


def tame(diffusion, name):
    return {
        part: SPACES[part](MASK).project(value) for part, value in wild(diffusion, name).items()
    }


def assert_held(state, atol=1e-12):
    for part, x in state.items():
        if part == "edges":
            assert torch.equal(x, x.transpose(1, 2))
            assert not x[~PAIRS].any()
            assert x[PAIRS].all()
        else:
            assert not x[~MASK].any()
            # A single point has nowhere to go.
            assert x[(MASK & (COUNTS > 1)[:, None])].all()
        if part == "positions":
            assert x.sum(1).abs().max() < atol


@both
def test_every_method_keeps_a_batch_in_its_subspaces(diffusion):
    """What a denoiser or a guide says may lie anywhere."""
    d, clean = diffusion.on(MASK), tame(diffusion, "clean")
    t, s, u = (torch.tensor(v, dtype=F64) for v in (0.6, 0.3, 0.8))
    said = {part: Prediction(x) for part, x in wild(diffusion, "said").items()}
    x = d.corrupt(clean, t, Rng(1))
    assert_held(d.prior(clean, Rng(2)), atol=1e-10)
    assert_held(x)
    for eta in (0.0, 0.5, 1.0):
        assert_held(d.reverse(x, said, t, s, Rng(3), stochasticity=eta))
        assert_held(d.reverse(x, said, t, torch.zeros_like(t), Rng(3), stochasticity=eta))
    assert_held(d.renoise(x, t, u, Rng(4)))
    tilted = d.tilt(said, wild(diffusion, "grad"), x, t)
    assert_held({part: p.mean for part, p in tilted.items()})
    assert_held(d.result(said, x, s))


@both
def test_a_batch_with_padding_is_each_sample_alone(diffusion):
    """Nodes first, so that a key per sample draws the same numbers for a smaller sample.

    Edges have other numbers then, and are compared where nothing is drawn.
    """
    clean, rng = tame(diffusion, "clean"), Rng(1).samples(B)
    t = torch.tensor([0.6, 0.2, 0.9, 0.5], dtype=F64)
    said = {part: Prediction(x) for part, x in wild(diffusion, "said").items()}
    grad, d = wild(diffusion, "grad"), diffusion.on(MASK)
    x = d.corrupt(clean, t, rng)
    moved = d.reverse(x, said, t, t / 2, rng.fold("down"), stochasticity=1.0)
    flow = d.reverse(x, said, t, t / 2)
    tilted = d.tilt(said, grad, x, t)
    loss = d.loss(said, clean, x, t)
    for i, n in enumerate(COUNTS.tolist()):

        def own(state, i=i, n=n):
            cut = {part: v[i : i + 1, :n] for part, v in state.items()}
            return {part: v[:, :, :n] if part == "edges" else v for part, v in cut.items()}

        key, time = rng.rows(torch.tensor([i])), t[i : i + 1]
        means = {
            part: Prediction(v) for part, v in own({k: p.mean for k, p in said.items()}).items()
        }
        alone = diffusion.corrupt(own(clean), time, key)
        pairs = [
            (own(flow), diffusion.reverse(own(x), means, time, time / 2)),
            (
                own({k: p.mean for k, p in tilted.items()}),
                {k: p.mean for k, p in diffusion.tilt(means, own(grad), own(x), time).items()},
            ),
            (
                {k: v[i : i + 1] for k, v in loss.items()},
                diffusion.loss(means, own(clean), own(x), time),
            ),
        ]
        down = diffusion.reverse(own(x), means, time, time / 2, key.fold("down"), stochasticity=1.0)
        drawn = [(own(x), alone), (own(moved), down)]
        for found, expected in drawn:
            for part in ("positions", "kinds", "nodes"):
                if part in found:
                    pairs.append((found[part], expected[part]))
        for found, expected in pairs:
            torch.testing.assert_close(found, expected)


def test_the_loss_is_the_mean_over_what_is_real():
    clean, said = tame(GRAPHS, "clean"), wild(GRAPHS, "said")
    d = GRAPHS.on(MASK)
    predictions = {part: Prediction(v) for part, v in said.items()}
    squares = {part: (said[part] - clean[part]).square() for part in said}
    t = torch.full((B,), 0.5, dtype=F64)
    loss = d.loss(predictions, clean, clean, t)
    for i in range(B):
        torch.testing.assert_close(loss["nodes"][i, 0, 0], squares["nodes"][i][MASK[i]].mean())
        edges = squares["edges"][i][PAIRS[i]]
        expected = edges.mean() if COUNTS[i] > 1 else torch.zeros((), dtype=F64)
        torch.testing.assert_close(loss["edges"][i, 0, 0, 0], expected)
    times = {
        "nodes": torch.full((B, N), 0.5, dtype=F64),
        "edges": torch.full((B, N, N), 0.5, dtype=F64),
    }
    loss = d.loss(predictions, clean, clean, times)
    each = torch.where(MASK, squares["nodes"].mean(-1), 0)
    torch.testing.assert_close(loss["nodes"][..., 0], each)
    each = torch.where(PAIRS, squares["edges"].mean(-1), 0)
    torch.testing.assert_close(loss["edges"][..., 0], each)


def test_means_over_counted_entries_by_hand():
    values = torch.tensor([[1.0, 2.0], [3.0, torch.inf]])
    counted = torch.tensor([[True, True], [True, False]])
    one = torch.zeros(2, 1)
    assert mean_like(values, one, counted).tolist() == [[1.5], [3.0]]
    assert mean_like(values, torch.zeros(()), counted).tolist() == [[2.0]]
    assert mean_like(values, torch.zeros(2, 2), counted).tolist() == [[1, 2], [3, 0]]
    assert mean_like(values, one, torch.zeros(2, 1, dtype=torch.bool)).tolist() == [[0], [0]]


@both
def test_at_small_times_a_noisy_state_is_the_clean_one(diffusion):
    clean = tame(diffusion, "clean")
    noisy = diffusion.on(MASK).corrupt(clean, torch.tensor(1e-7, dtype=F64), Rng(0))
    for part, x in noisy.items():
        torch.testing.assert_close(x, clean[part], rtol=0, atol=2e-3)  # the cosine's sigma(0)


class Wild(nn.Module):
    """An estimate that is right up to what no subspace has."""

    def forward(self, x, t, cond=None, carry=None, rng=None):
        def say(part):
            noise = Rng(9).normal(part.shape, part.dtype)
            return Prediction(part / 2 + noise)

        said = {k: say(v) for k, v in x.items()} if isinstance(x, dict) else say(x)
        return said, dict(carry or {})


@both
@pytest.mark.parametrize("solver", [ancestral(), ancestral(1.0), resampled(ancestral(), 2)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_samples_of_parts_stay_in_their_subspaces(diffusion, solver, dtype):
    d = diffusion.on(MASK)
    like = {part: x.to(dtype) for part, x in tame(diffusion, "like").items()}
    plan = SamplingPlan.uniform(20)
    last = final(sample(Wild(), d, plan, d.prior(like, Rng(0)), rng=Rng(1), solver=solver))
    # 20 steps from sigma = 80: single precision keeps the centre to 1e-6 (check 12).
    assert_held(last.x, atol=1e-6 if dtype == torch.float32 else 1e-12)
    assert_held(last.result, atol=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(
    "solver",
    [ancestral(1.0), heun(), heun(torch.inf), dpm_solver_pp_2m(), corrected(ancestral(1.0))],
)
def test_samples_of_points_alone_stay_in_theirs_by_every_solver(solver):
    d = GaussianDiffusion(EDM(), ZeroCentre()).on(MASK)
    x = d.prior(torch.empty(B, N, 3, dtype=F64), Rng(0))
    steps = sample(Wild(), d, SamplingPlan.uniform(10), x, rng=Rng(1), solver=solver)
    for step in steps:
        assert_held({"positions": step.x}, atol=1e-10)
        assert_held({"positions": step.result}, atol=1e-10)


def test_a_mask_of_one_row_is_for_all_samples():
    d = GaussianDiffusion(Cosine(), ZeroCentre()).on(MASK[:1].roll(1))
    many = GaussianDiffusion(Cosine(), ZeroCentre()).on(MASK[:1].roll(1).expand(B, N))
    like = torch.empty(B, N, 3, dtype=F64)
    assert torch.equal(d.prior(like, Rng(0)), many.prior(like, Rng(0)))


def test_a_mask_of_another_batch_is_refused():
    d, x = POINTS.on(MASK), wild(POINTS, "x")
    more = {part: torch.cat((v, v)) for part, v in x.items()}
    with pytest.raises(
        ValueError, match=r"mask of shape \(4, 5\) for a state of shape \(8, 5, 3\)"
    ):
        d.prior(more, Rng(0))
    edges = GaussianDiffusion(Cosine(), Symmetric()).on(MASK[:, :4])
    with pytest.raises(ValueError, match=r"mask of shape \(4, 4\) for a state of shape \(4, 5, 5"):
        edges.prior((B, N, N, 1), Rng(0))


@pytest.mark.parametrize(
    ("space", "shape", "demand"),
    [
        (Whole(MASK), (B, N, 2), "must be 0 in padding"),
        (ZeroCentre(), (B, N, 3), "must have mean 0"),
        (ZeroCentre(MASK), (B, N, 3), "must have mean 0"),
        (Symmetric(), (B, N, N, 1), "must be symmetric, and 0 on the diagonal"),
        (Symmetric(MASK), (B, N, N, 1), "must be symmetric, and 0 on the diagonal"),
    ],
    ids=str,
)
def test_clean_data_off_the_subspace_are_refused(space, shape, demand):
    d, x, t = GaussianDiffusion(Cosine(), space), Rng(0).normal(shape), torch.tensor(0.5)
    with pytest.raises(ValueError, match=demand):
        d.corrupt(x, t, Rng(0))
    d.corrupt(space.project(x), t, Rng(0))


def test_what_knows_no_padding_says_so():
    mixed = ProductDiffusion({"a": GaussianDiffusion(), "b": CategoricalDiffusion(3)})
    with pytest.raises(TypeError, match="CategoricalDiffusion, of the part 'b', knows no padding"):
        mixed.on(MASK)
    padded = GaussianDiffusion().on(MASK)
    with pytest.raises(ValueError, match="whole space"):
        flow_log_likelihood(None, padded, torch.zeros(1), Rng(0))
    with pytest.raises(ValueError, match="whole space"):
        nats_bound(None, padded, torch.zeros(1, 2, dtype=torch.int64), Rng(0), codec=object())
