"""Categorical diffusion against brute force over all states."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from noiseloom import Cosine, Prediction, Rng, SamplingPlan
from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.diffusion.class_draws import drawn
from noiseloom.noise import LinearGamma

K = 3
LAW = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def made(kind: str, schedule: object = None) -> CategoricalDiffusion:
    pi = LAW.flip(0) if kind == "marginal" else None
    return CategoricalDiffusion(K, kind, schedule or LinearGamma(clip=0.0), pi)


def forward(diffusion: CategoricalDiffusion, u: float, width: int) -> Tensor:
    """The transition matrix over a change of noise share from 0 to u, rows from."""
    if diffusion.kind == "absorbing":
        pi = functional.one_hot(torch.tensor(K), K + 1).double()
    else:
        pi = (
            LAW.flip(0)
            if diffusion.kind == "marginal"
            else torch.full((K,), 1 / K, dtype=torch.float64)
        )
    eye = torch.eye(width, dtype=torch.float64)
    matrix = (1 - u) * eye + u * pi
    if diffusion.kind == "absorbing":
        matrix[K] = eye[K]
    return matrix


kinds = pytest.mark.parametrize("kind", ["absorbing", "uniform", "marginal"])
schedules = pytest.mark.parametrize("schedule", [LinearGamma(clip=0.0), Cosine(0, 1e-6)])


def time(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@kinds
@schedules
def test_the_posterior_is_bayes_rule(kind: str, schedule: object) -> None:
    diffusion = made(kind, schedule)
    t, s = time(0.7), time(0.4)
    u, v = (float(diffusion.noise(x)) for x in (t, s))
    to_s = forward(diffusion, v, diffusion.width)
    onward = forward(diffusion, 1 - (1 - u) / (1 - v), diffusion.width)
    to_t = forward(diffusion, u, diffusion.width)
    torch.testing.assert_close(to_s @ onward, to_t)
    for x_0, x_t in itertools.product(range(K), range(diffusion.width)):
        if to_t[x_0, x_t] == 0:
            continue
        expected = to_s[x_0] * onward[:, x_t] / to_t[x_0, x_t]
        sure = functional.one_hot(torch.tensor([[x_0]]), K).double()
        law = diffusion.moved(torch.tensor([[x_t]]), Prediction(sure), t, s)
        torch.testing.assert_close(law[0, 0], expected, atol=1e-12, rtol=0)


class Exact:
    """The exact p(x_0 of each token | x_t) of a joint law of T tokens, by sums over all of it."""

    causal = False

    def __init__(self, diffusion: CategoricalDiffusion, joint: Tensor) -> None:
        self.diffusion, self.joint = diffusion, joint

    def __call__(
        self, x: Tensor, t: Tensor, cond: object = None, carry: object = None, rng: object = None
    ) -> tuple[Prediction, dict[str, object]]:
        count, tokens = x.shape
        share = self.diffusion.noise(t.reshape(t.shape + (1,) * (2 - t.ndim)))
        share = share.expand(count, tokens)
        weights = self.joint[None].expand(count, *self.joint.shape)
        for i in range(tokens):
            likely = torch.stack(
                [
                    forward(self.diffusion, float(share[b, i]), self.diffusion.width)[:K, x[b, i]]
                    for b in range(count)
                ]
            )
            shape = [count, *[1] * tokens]
            shape[i + 1] = K
            weights = weights * likely.reshape(shape)
        total = weights.flatten(1).sum(1)
        rest = [
            weights.movedim(i + 1, 1).reshape(count, K, -1).sum(-1) / total[:, None]
            for i in range(tokens)
        ]
        # States that cannot be at their times have no posterior, and no weight in what follows.
        return Prediction(torch.stack(rest, 1).nan_to_num(1 / K)), {}


def every(width: int, tokens: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(width), repeat=tokens)))


def joint(tokens: int) -> Tensor:
    weights = torch.tensor(np.random.default_rng(tokens).gamma(0.7, size=(K,) * tokens))
    return weights / weights.sum()


def pushed(
    denoiser: Callable[..., tuple[Prediction, object]],
    diffusion: CategoricalDiffusion,
    plan: SamplingPlan,
    tokens: int,
) -> Tensor:
    """The exact law of what a plan leads to, over all states."""
    states, width = every(diffusion.width, tokens), diffusion.width
    start = forward(diffusion, float(diffusion.noise(time(1.0))), width)[0]
    law = torch.stack([start[states[:, i]] for i in range(tokens)]).prod(0)
    for t, s in plan.rows(states.double()):
        t, s = t.double(), s.double()
        prediction, _ = denoiser(states, t)
        moves = diffusion.moved(states, prediction, t, s)  # (S, T, width)
        stay = functional.one_hot(states, width).double()
        same = (t == s).reshape((1,) * (2 - t.ndim) + t.shape)[..., None]
        moves = torch.where(same, stay, moves)
        chance = torch.stack([moves[:, i, states[:, i]] for i in range(tokens)]).prod(0)
        law = law @ chance
    return law


@kinds
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_one_token_has_the_law_of_the_data_in_any_number_of_steps(kind: str, steps: int) -> None:
    diffusion, data = made(kind), LAW
    law = pushed(Exact(diffusion, data), diffusion, SamplingPlan.uniform(steps), 1)
    expected = torch.zeros(diffusion.width).double()
    expected[:K] = data
    torch.testing.assert_close(law, expected, atol=1e-7, rtol=0)


@kinds
def test_more_tokens_come_to_the_law_of_the_data_with_more_steps(kind: str) -> None:
    diffusion, data = made(kind), joint(2)
    errors = []
    for steps in (8, 16, 32):
        law = pushed(Exact(diffusion, data), diffusion, SamplingPlan.uniform(steps), 2)
        law = law.reshape(diffusion.width, diffusion.width)[:K, :K]
        errors.append(float((law - data).abs().max()))
    order = math.log2(errors[1] / errors[2])
    assert 0.8 < order < 1.2, errors


def test_token_by_token_masks_have_the_law_of_the_data_at_once() -> None:
    diffusion, data = made("absorbing"), joint(3)
    plan = SamplingPlan.autoregressive(1, 3)
    law = pushed(Exact(diffusion, data), diffusion, plan, 3).reshape((K + 1,) * 3)
    torch.testing.assert_close(law[:K, :K, :K], data, atol=1e-7, rtol=0)


def integral(diffusion: CategoricalDiffusion, denoiser: Exact, data: Tensor, tokens: int) -> float:
    """The integrand of the bound by quadrature over time and sums over all states."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    total, clean = 0.0, every(K, tokens)
    states = every(diffusion.width, tokens)
    for node, weight in zip(nodes, weights, strict=True):
        root = (node + 1) / 2  # t = root^3: the integrand grows as log t at 0
        t, weight = time(root**3), weight * 3 * root**2
        matrix = forward(diffusion, float(diffusion.noise(t)), diffusion.width)
        prediction, _ = denoiser(states, t)
        for row, chance in zip(clean, data.flatten(), strict=True):
            likely = torch.stack([matrix[row[i], states[:, i]] for i in range(tokens)]).prod(0)
            per = diffusion.loss(
                prediction, row.expand(len(states), tokens), states, t.expand(len(states), tokens)
            )
            total += weight / 2 * float(chance) * float((likely * per.sum(1)).sum())
    return total


@kinds
@schedules
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_bound_of_the_exact_denoiser_is_the_entropy(
    kind: str, schedule: object, tokens: int
) -> None:
    diffusion = made(kind, schedule)
    data = LAW if tokens == 1 else joint(2)
    entropy = -float((data * data.log()).sum())
    found = integral(diffusion, Exact(diffusion, data), data, tokens)
    assert found == pytest.approx(entropy, abs=2e-4)


@kinds
def test_of_another_denoiser_it_is_more(kind: str) -> None:
    diffusion, data = made(kind), joint(2)
    entropy = -float((data * data.log()).sum())
    found = integral(diffusion, Exact(diffusion, joint(2).T.contiguous()), data, 2)
    assert found > entropy + 0.02


@kinds
def test_a_tilted_law_is_that_of_tilted_data(kind: str) -> None:
    diffusion, table = made(kind), torch.tensor([0.3, -1.0, 1.2], dtype=torch.float64)
    exact = Exact(diffusion, LAW)

    def tilted(x: Tensor, t: Tensor) -> tuple[Prediction, None]:
        prediction, _ = exact(x, t)
        return diffusion.tilt(prediction, table.expand(*x.shape, K), x, t), None

    law = pushed(tilted, diffusion, SamplingPlan.uniform(4), 1)[:K]
    expected = (LAW * table.exp()) / (LAW * table.exp()).sum()
    torch.testing.assert_close(law, expected, atol=1e-7, rtol=0)


@kinds
def test_noise_has_its_law(kind: str) -> None:
    diffusion, n = made(kind), 200_000
    clean = torch.ones(n, 1, dtype=torch.int64)
    half = diffusion.corrupt(clean, time(0.4), Rng(0))
    more = diffusion.renoise(half, time(0.4), time(0.7), Rng(1))
    for x, t in ((half, 0.4), (more, 0.7)):
        expected = forward(diffusion, t, diffusion.width)[1]
        counts = torch.bincount(x.flatten(), minlength=diffusion.width).double()
        seen = expected > 0
        assert not counts[~seen].any()
        chi = ((counts - n * expected)[seen].square() / (n * expected[seen])).sum()
        assert float(chi) < 16.3  # 1 in 1,000 at 3 degrees of freedom
    prior = diffusion.prior((n, 1), Rng(2))
    expected = forward(diffusion, 1.0, diffusion.width)[1]
    counts = torch.bincount(prior.flatten(), minlength=diffusion.width).double()
    torch.testing.assert_close(counts / n, expected, atol=0.004, rtol=0)


@kinds
def test_a_token_that_stays_is_the_same_and_each_has_its_own_time(kind: str) -> None:
    diffusion = made(kind)
    x = diffusion.prior((4, 6), Rng(0))
    p = torch.softmax(Rng(1).normal((4, 6, K)), -1)
    t = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    s = torch.where(torch.arange(6) % 2 == 0, t, t * 0.3)
    keys = Rng(2).samples(4)
    moved = diffusion.reverse(x, Prediction(p), t, s, keys)
    assert torch.equal(moved[:, ::2], x[:, ::2])
    for b, i in itertools.product(range(4), range(6)):
        one = diffusion.moved(x[b, i], Prediction(p[b, i]), t[b, i], s[b, i])
        whole = diffusion.moved(x, Prediction(p), t, s)[b, i]
        torch.testing.assert_close(one, whole)
    alone = diffusion.reverse(
        x[2:3], Prediction(p[2:3]), t[2:3], s[2:3], keys.rows(torch.tensor([2]))
    )
    assert torch.equal(alone[0], moved[2])


def test_no_mask_survives_whatever_the_schedule_leaves() -> None:
    diffusion = CategoricalDiffusion(K, schedule=Cosine())  # sigma(0) > 0
    x = diffusion.prior((64, 64), Rng(0))
    p = torch.softmax(Rng(1).normal((64, 64, K)), -1)
    law = diffusion.moved(x, Prediction(p), time(0.3), time(0.0))
    assert float(law[..., K].max()) == 0
    assert int(diffusion.reverse(x, Prediction(p), time(0.3), time(0.0), Rng(2)).max()) < K


def test_a_drawn_class_has_its_probability_and_an_impossible_one_is_not_drawn() -> None:
    law = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    found = torch.bincount(drawn(law.expand(100_000, 5), Rng(0)), minlength=5) / 100_000
    assert found[[0, 2, 4]].sum() == 0
    assert float(found[1]) == pytest.approx(0.25, abs=0.005)


def test_places_may_have_classes_of_their_own() -> None:
    diffusion = CategoricalDiffusion.of_sizes((2, 3))
    x = diffusion.prior((5_000, 2), Rng(0))
    assert x.amax(0).tolist() == [1, 2]
    assert diffusion.corrupt(torch.zeros_like(x), time(1.0), Rng(1)).amax(0).tolist() == [1, 2]
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).expand(5_000, 2, 3)
    end = diffusion.reverse(x, Prediction(p), time(1.0), time(0.5), Rng(2))
    assert end.amax(0).tolist() == [1, 2]
    loss = diffusion.loss(Prediction(p), torch.zeros_like(x), x, torch.full((5_000, 2), 0.5))
    assert bool(loss.isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CategoricalDiffusion(1), "at least 2"),
        (lambda: CategoricalDiffusion(3, "masked"), "absorbing, uniform or marginal"),
        (lambda: CategoricalDiffusion(3, "marginal"), "of it alone"),
        (lambda: CategoricalDiffusion(3, "uniform", probabilities=LAW), "of it alone"),
        (lambda: CategoricalDiffusion(3, "marginal", probabilities=LAW * 2), "add up to 1"),
        (
            lambda: made("uniform").reverse(
                torch.zeros(1, 1, dtype=torch.int64), Prediction(LAW[None, None]), time(1), time(0)
            ),
            "give rng",
        ),
        (
            lambda: made("uniform").tilt(
                Prediction(LAW[None, None]), LAW[None], torch.zeros(1, 1), time(1)
            ),
            "for each clean class",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
