"""Denoisers of classes and codes, their bounds, the autoregressive model, orders of unmasking."""

import itertools
import math
from typing import Any

import pytest
import torch
from test_categorical import Exact, K, joint, kinds, made
from torch import Tensor, nn

from noiseloom import (
    ClassifierFree,
    Cosine,
    GaussianDiffusion,
    LinearGamma,
    Prediction,
    Rng,
    SamplingPlan,
    SelfConditioned,
    SelfGuided,
    sample,
)
from noiseloom.bound import _levels, nats_bound
from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser, Remembering
from noiseloom.diffusion import CategoricalDiffusion
from noiseloom.diffusion.class_draws import drawn
from noiseloom.encodings import Bits, OneHot
from noiseloom.information import information_schedule
from noiseloom.nets import CausalTransformer, Transformer
from noiseloom.next_token import NextToken
from noiseloom.sampling import ancestral, dpm_solver_pp_2m, final, heun, resampled
from noiseloom.stochastic import churned, restarted, restarts
from noiseloom.unmasking import by_confidence

SIZES = (3, 2, 3, 3)


def stirred(network: nn.Module) -> nn.Module:
    """Not zero at the end, where untrained networks are."""
    with Rng(7).torch():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
    return network


def network(features: int, causal: bool = False, **options: object) -> nn.Module:
    if causal:
        made = CausalTransformer(features, K, width=16, depth=1, heads=2, window=4, **options)
    else:
        made = Transformer(features, K, max_length=4, width=16, depth=1, heads=2, **options)
    return stirred(made).eval()


@kinds
def test_seen_tokens_are_copied_and_masks_have_no_probability(kind: str) -> None:
    diffusion = made(kind)
    denoiser = ClassDenoiser(network(diffusion.width), diffusion)
    x = diffusion.prior((5, 4), Rng(0))
    x[:, 0] = torch.tensor([0, 1, 2, 0, 1])
    prediction, _ = denoiser(x, torch.full((5,), 0.5))
    assert prediction.mean.shape == (5, 4, K)
    torch.testing.assert_close(prediction.mean.sum(-1), torch.ones(5, 4))
    copied = prediction.mean[:, 0].argmax(-1) == x[:, 0]
    sure = prediction.mean[:, 0].amax(-1) == 1
    assert bool((copied & sure).all()) is (kind == "absorbing")
    early, _ = denoiser(x, torch.full((5,), 0.1))
    assert torch.equal(early.mean, prediction.mean) is (kind == "absorbing")


@pytest.mark.parametrize("kind", ["absorbing", "places", "codes"])
def test_classes_that_a_place_lacks_are_never_drawn(kind: str) -> None:
    t = torch.full((50,), 0.5)
    if kind == "codes":
        table = Bits(3).table
        codes = CodeDenoiser(network(5), Cosine(), table, sizes=SIZES)
        with torch.no_grad():
            prediction, _ = codes(Rng(0).normal((50, 4, 2)), t)
        assert codes.decode(Rng(1).normal((50, 4, 2))).amax(0).tolist() == [2, 1, 2, 2]
        assert prediction.logits is not None
        assert float(prediction.logits.softmax(-1)[:, 1, 0, 2].max()) == 0
        return
    if kind == "absorbing":
        diffusion = made(kind)
        denoiser = ClassDenoiser(network(4), diffusion, sizes=SIZES)
    else:
        diffusion = CategoricalDiffusion.of_sizes(SIZES)
        denoiser = ClassDenoiser(network(3), diffusion)
    x = diffusion.prior((50, 4), Rng(0))
    steps = sample(denoiser, diffusion, SamplingPlan.uniform(5), x, rng=Rng(1))
    assert final(steps).result.amax(0).tolist() == [2, 1, 2, 2]


@pytest.mark.parametrize("learnt", [True, False])
def test_codes_are_read_as_they_are_written(learnt: bool) -> None:
    table = Rng(0).normal((3, 5)) * 3
    codes = CodeDenoiser(network(8), Cosine(), table, learnt=learnt)
    data = torch.tensor([[0, 1, 2, 2], [2, 2, 0, 1]])
    state = codes.encode(data)
    assert torch.equal(codes.decode(state), data)
    if learnt:  # of unit variance, and trained through what is noised
        torch.testing.assert_close(codes.codes.square().mean(-1), torch.ones(3))
        state.sum().backward()
        assert codes.table.grad is not None
    else:
        assert not list(codes.named_parameters(recurse=False))


@kinds
@pytest.mark.parametrize("wrapper", ["plain", "resampled", "churned", "restarted"])
def test_noise_put_back_leaves_the_law(kind: str, wrapper: str) -> None:
    diffusion, data = made(kind), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    n, plan = 40_000, SamplingPlan.uniform(6)
    solver = {
        "plain": ancestral(),
        "resampled": resampled(ancestral(), 3),
        "churned": churned(ancestral(), 2.0, 6),
        "restarted": restarted(ancestral()),
    }[wrapper]
    if wrapper == "restarted":
        plan = restarts(plan, 0.2, 0.8, 2)
    exact = Exact(diffusion, data)
    # One place: the law of every state is known, and looked up.
    x = diffusion.prior((n, 1), Rng(0))

    def looked_up(x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, dict[str, object]]:
        states = torch.arange(diffusion.width)[:, None]
        some = t.flatten()[:1].double() if t.ndim else t.double()
        prediction, _ = exact(states, some.reshape(()))
        return Prediction(prediction.mean[x[:, 0]]), {}

    result = final(sample(looked_up, diffusion, plan, x, rng=Rng(1), solver=solver)).x
    counts = torch.bincount(result.flatten(), minlength=diffusion.width).double()
    assert not counts[K:].any()
    chi = ((counts[:K] - n * data).square() / (n * data)).sum()
    assert float(chi) < 13.8  # 1 in 1,000 at 2 degrees of freedom


@pytest.mark.parametrize("solver", [heun(), dpm_solver_pp_2m()])
def test_solvers_for_numbers_refuse_classes(solver: object) -> None:
    diffusion = made("uniform")
    denoiser = ClassDenoiser(network(3), diffusion)
    x = diffusion.prior((2, 4), Rng(0))
    with pytest.raises(TypeError, match="classes are drawn"):
        final(sample(denoiser, diffusion, SamplingPlan.uniform(3), x, rng=Rng(1), solver=solver))


def test_by_confidence_the_surest_come_first_as_many_as_a_row_has() -> None:
    diffusion = CategoricalDiffusion(2)
    sure = torch.tensor([0.9, 0.6, 0.99, 0.7, 0.8, 0.95])

    def denoiser(x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, dict[str, object]]:
        mean = torch.stack((sure, 1 - sure), -1).expand(len(x), 6, 2)
        seen = torch.nn.functional.one_hot(x.clamp(max=1), 2).float()
        return Prediction(torch.where((x == 2)[..., None], mean, seen)), {}

    x = diffusion.prior((400, 6), Rng(0))
    steps = list(
        sample(denoiser, diffusion, SamplingPlan.uniform(3), x, rng=Rng(1), solver=by_confidence())
    )
    assert [int((s.x[0] < 2).sum()) for s in steps] == [2, 4, 6]
    first = steps[0].x
    plain = (first < 2) & (first == 0)
    assert int(plain.sum(0).argmax()) == 2  # the surest of all
    assert all(torch.equal(b.x[a.x < 2], a.x[a.x < 2]) for a, b in itertools.pairwise(steps))
    uniform, plan = made("uniform"), SamplingPlan.uniform(2)
    start = uniform.prior((2, 6), Rng(0))
    steps = sample(denoiser, uniform, plan, start, rng=Rng(1), solver=by_confidence())
    with pytest.raises(ValueError, match="absorbing diffusion only"):
        final(steps)


def entropy(data: Tensor) -> float:
    return -float((data * data.log()).sum())


def drawn_rows(data: Tensor, count: int) -> Tensor:
    rows = torch.tensor(list(itertools.product(range(K), repeat=data.ndim)))
    pick = torch.multinomial(
        data.flatten(), count, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    return rows[pick]


@kinds
@pytest.mark.parametrize("exact", [True, False])
def test_the_bound_of_classes_is_the_entropy_or_more(kind: str, exact: bool) -> None:
    diffusion, data = made(kind), joint(2)
    rows = drawn_rows(data, 5_000)
    denoiser = Exact(diffusion, data if exact else data.T.contiguous())
    nats = nats_bound(denoiser, diffusion, rows, Rng(0), points=8)
    error = float(nats.std()) / math.sqrt(len(nats))
    truth = -data[rows[:, 0], rows[:, 1]].log().mean()
    if exact:
        assert abs(float(nats.mean() - truth)) < 4 * error < 0.15
    else:
        assert float(nats.mean() - truth) > 3 * error


class ExactCodes:
    """E[x_0 | x_t] of codes of a joint law, by sums over all of it."""

    def __init__(self, codes: Tensor, data: Tensor) -> None:
        self.codes, self.data = codes, data

    def __call__(
        self, x: Tensor, t: Tensor, cond: object = None, carry: object = None, rng: object = None
    ) -> tuple[Prediction, dict[str, object]]:
        alpha, sigma = (v.reshape(-1, 1, 1, 1) for v in Cosine()(t.double()))
        distance = (x.double()[:, :, None] - alpha * self.codes.double()).square().sum(-1)
        likely = -distance / (2 * sigma[..., 0] ** 2)
        total = likely[:, 0, :, None] + likely[:, 1, None, :] + self.data.log()
        p = total.flatten(1).softmax(1).reshape(total.shape)
        both = torch.stack((p.sum(2), p.sum(1)), 1)
        return Prediction((both @ self.codes.double()).to(x)), {}


@pytest.mark.parametrize("kind", ["bits", "onehot", "embedding"])
@pytest.mark.parametrize("exact", [True, False])
def test_the_bound_of_codes_is_the_entropy_or_more(kind: str, exact: bool) -> None:
    table = {
        "bits": Bits(3).table,
        "onehot": OneHot(3).table,
        "embedding": Rng(3).normal((3, 4)),
    }[kind]
    codec = CodeDenoiser(nn.Identity(), Cosine(), table, learnt=kind == "embedding")
    data = joint(2)
    rows = drawn_rows(data, 4_000)
    denoiser = ExactCodes(codec.codes.detach(), data if exact else data.T.contiguous())
    diffusion = GaussianDiffusion(Cosine())
    nats = nats_bound(denoiser, diffusion, rows, Rng(0), codec=codec, points=16)
    error = float(nats.std()) / math.sqrt(len(nats))
    truth = float(-data[rows[:, 0], rows[:, 1]].log().mean())
    if exact:
        assert abs(float(nats.mean()) - truth) < 4 * error < 0.15
    else:
        assert float(nats.mean()) - truth > 3 * error


def test_a_gaussian_bound_needs_codes() -> None:
    with pytest.raises(ValueError, match="of codes"):
        nats_bound(
            Exact(made("uniform"), joint(1)), GaussianDiffusion(), torch.zeros(1, 1).long(), Rng(0)
        )


def test_the_autoregressive_law_adds_up_to_one_and_is_what_is_drawn() -> None:
    model = NextToken(network(K + 1, causal=True), K, sizes=SIZES)
    rows = torch.tensor(list(itertools.product(range(K), repeat=4)))
    with torch.no_grad():
        p = model.log_prob(rows).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert not p[rows[:, 1] == 2].any()
    n = 20_000
    drawn = model.sample(4, Rng(0).samples(n))
    index = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
    counts, there = torch.bincount(index, minlength=81).double(), p > 0
    chi = ((counts - n * p)[there].square() / (n * p[there])).sum()
    assert float(chi) < 95  # 1 in 1,000 at 53 degrees of freedom
    assert torch.equal(drawn[7:9], model.sample(4, Rng(0).samples(2, start=7)))


def test_what_is_known_is_kept_and_a_prefix_is_told() -> None:
    model = NextToken(network(K + 1, causal=True), K)
    tokens, known = torch.tensor([1, 0, 2, 0]), torch.tensor([True, False, True, False])
    known = tokens.expand(500, 4), known.expand(500, 4)
    drawn = model.sample(4, Rng(0).samples(500), known=known)
    assert bool((drawn[:, 0] == 1).all() and (drawn[:, 2] == 2).all())
    expected = model.conditionals(torch.tensor([[1, 0, 0, 0]]))[0, 1].exp()
    found = torch.bincount(drawn[:, 1], minlength=K) / 500
    torch.testing.assert_close(found, expected.detach(), atol=0.07, rtol=0)


@pytest.mark.parametrize(
    "kind", ["absorbing", "uniform", "marginal", "bits", "onehot", "embedding"]
)
def test_independent_tokens_need_no_network(kind: str) -> None:
    """With a constant for f, the law of a token, the denoiser is exact at every time."""
    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(law.log())

        def forward(self, x: Tensor, log_snr: Tensor, cond: object = None) -> Tensor:
            return self.logits.expand(*x.shape[:2], K)

    for value in (0.02, 0.4, 0.9):
        t = torch.tensor(value, dtype=torch.float64)
        if kind in ("absorbing", "uniform", "marginal"):
            diffusion = made(kind)
            x = torch.arange(diffusion.width)[:, None]
            expected, _ = Exact(diffusion, law)(x, t)
            found, _ = ClassDenoiser(Constant(), diffusion)(x, t)
            torch.testing.assert_close(found.mean, expected.mean, atol=1e-6, rtol=0)
            continue
        table = {
            "bits": Bits(3).table,
            "onehot": OneHot(3).table,
            "embedding": Rng(3).normal((3, 4)),
        }
        codes = CodeDenoiser(Constant(), Cosine(), table[kind], learnt=kind == "embedding").double()
        x = Rng(5).normal((20, 1, table[kind].shape[1])).double()
        alpha, sigma = Cosine()(t)
        near = -(x - alpha * codes.codes).square().sum(-1)[:, None] / (2 * sigma**2)
        expected_mean = (near + law.log()).softmax(-1) @ codes.codes
        found, _ = codes(x, t)
        torch.testing.assert_close(found.mean, expected_mean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
@kinds
def test_guidance_of_classes_weighs_log_probabilities(kind: str, scale: float) -> None:
    diffusion = made(kind)
    told = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    laws = {0: told, 1: torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)}

    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor, log_snr: Tensor, cond: dict[str, Tensor]) -> Tensor:
            return laws[0 if "label" in cond else 1].log().float().expand(*x.shape[:2], K)

    denoiser = ClassifierFree(ClassDenoiser(Told(), diffusion), scale)
    x, t = diffusion.prior((40, 2), Rng(0)), torch.tensor(1.0)
    label = {"label": torch.zeros(40, dtype=torch.int64)}
    prediction, _ = denoiser(x, t, label)
    expected = laws[0] ** scale * laws[1] ** (1 - scale)
    expected = (expected / expected.sum()).float().expand(40, 2, K)
    torch.testing.assert_close(prediction.mean, expected, atol=1e-5, rtol=0)
    # Tokens that are seen beside masks stay copied, and all of a sampling run is classes.
    end = final(sample(denoiser, diffusion, SamplingPlan.uniform(4), x, cond=label, rng=Rng(1)))
    assert 0 <= int(end.x.min()) <= int(end.x.max()) < K


def test_self_guidance_and_self_conditioning_work_on_classes() -> None:
    diffusion = made("absorbing")
    inner = ClassDenoiser(network(4, self_conditioning=True), diffusion)
    x = diffusion.prior((6, 4), Rng(0))
    for denoiser in (SelfConditioned(inner), SelfGuided(inner, 2.0)):
        steps = sample(denoiser, diffusion, SamplingPlan.uniform(4), x, rng=Rng(1))
        end = final(steps)
        assert int(end.x.max()) < K
        assert torch.equal(end.result, end.x)


def test_rows_that_have_not_changed_are_not_asked_for_again() -> None:
    diffusion, asked = made("absorbing"), []
    denoiser = ClassDenoiser(network(4), diffusion)
    denoiser.network.register_forward_pre_hook(lambda _, args: asked.append(len(args[0])))
    remembering = Remembering(denoiser).eval()
    x, rng = diffusion.prior((6, 4), Rng(0)), Rng(1).samples(6)
    plan = SamplingPlan.uniform(50)
    steps = list(sample(remembering, diffusion, plan, x, rng=rng))
    # At most once for each token that was unmasked, and at first.
    assert sum(asked) <= 6 * (1 + 4)
    asked.clear()
    for one, other in zip(steps, sample(denoiser, diffusion, plan, x, rng=rng), strict=True):
        assert torch.equal(one.x, other.x)
        torch.testing.assert_close(one.prediction.mean, other.prediction.mean)
    assert sum(asked) == 6 * 50
    with pytest.raises(ValueError, match="bare denoiser of masks"):
        Remembering(ClassDenoiser(network(3), made("uniform")))


def test_masks_go_by_the_law_whatever_way_they_are_drawn() -> None:
    diffusion, n = made("absorbing"), 100_000
    p = torch.tensor([0.6, 0.0, 0.4]).expand(n, 1, 3)
    x = diffusion.prior((n, 1), Rng(0))
    t, s = torch.tensor(0.8), torch.tensor(0.3)
    new = diffusion.reverse(x, Prediction(p), t, s, Rng(1))
    law = diffusion.moved(x[:1], Prediction(p[:1]), t, s)[0, 0]
    share = torch.bincount(new[:, 0], minlength=4) / n
    assert float((share - law).abs().max()) < 5 * (0.25 / n) ** 0.5
    assert float(share[1]) == 0
    # And, but for rounding, the draw that it stands for.
    whole = drawn(diffusion.moved(x, Prediction(p), t, s), Rng(1))
    assert float((whole != new).float().mean()) < 1e-4


def test_likelihoods_tilt_logits_where_probabilities_are_rounded_away() -> None:
    diffusion, x, t = made("uniform"), torch.zeros(1, 1, dtype=torch.int64), torch.tensor(1.0)
    logits = torch.tensor([[[0.0, -200.0, -300.0]]])
    prediction = Prediction(logits.softmax(-1), logits)
    tilted = diffusion.tilt(prediction, torch.tensor([[[0.0, 500.0, 0.0]]]), x, t)
    torch.testing.assert_close(tilted.mean, torch.tensor([[[0.0, 1.0, 0.0]]]))
    sure = Prediction(torch.tensor([[[1.0, 0.0, 0.0]]]))
    never = torch.tensor([[[-torch.inf, 0.0, 0.0]]])
    with pytest.raises(ValueError, match="no class possible"):
        diffusion.tilt(sure, never, x, t)


@pytest.mark.parametrize("steps", [10, 100, 1000])
def test_by_confidence_goes_at_the_plans_pace(steps: int) -> None:
    diffusion = CategoricalDiffusion(2)

    def denoiser(x: Tensor, t: Tensor, *rest: object) -> tuple[Prediction, dict[str, object]]:
        return Prediction(torch.full((*x.shape, 2), 0.5)), {}

    x = diffusion.prior((200, 64), Rng(0))
    plan = SamplingPlan.uniform(steps)
    rows = sample(denoiser, diffusion, plan, x, rng=Rng(1), solver=by_confidence())
    left = [float((step.x == 2).sum(1).float().mean()) for step in rows]
    for row in (steps // 4, steps // 2, steps * 3 // 4):
        assert left[row - 1] == pytest.approx(64 * (1 - row / steps), abs=1)
    assert left[-1] == 0


def test_a_schedule_that_ends_before_noise_has_no_bound() -> None:
    diffusion = CategoricalDiffusion(K, "uniform", LinearGamma(clip=0.1))
    exact = Exact(diffusion, joint(1))
    with pytest.raises(ValueError, match="ends in noise alone"):
        nats_bound(exact, diffusion, torch.zeros(1, 1, dtype=torch.int64), Rng(0))


def test_tokens_at_time_0_are_what_they_are_whatever_the_schedule_leaves() -> None:
    diffusion = CategoricalDiffusion(K, "uniform", Cosine())
    clean = torch.zeros(200_000, 1, dtype=torch.int64)
    assert torch.equal(diffusion.corrupt(clean, torch.zeros(()), Rng(0)), clean)


def test_churn_has_no_factor_for_classes() -> None:
    diffusion = made("uniform")
    solver = churned(ancestral(), 2.0, 4, noise=1.003)
    x = diffusion.prior((2, 4), Rng(0))
    denoiser = ClassDenoiser(network(3), diffusion)
    steps = sample(denoiser, diffusion, SamplingPlan.uniform(4), x, rng=Rng(1), solver=solver)
    with pytest.raises(TypeError, match="these are classes"):
        final(steps)


@kinds
def test_momentum_of_the_estimate_works_on_classes(kind: str) -> None:
    diffusion = made(kind)
    inner = ClassDenoiser(network(diffusion.width, self_conditioning=True), diffusion)
    x = diffusion.prior((6, 4), Rng(0))
    denoiser = SelfConditioned(inner, momentum=0.5)
    end = final(sample(denoiser, diffusion, SamplingPlan.uniform(4), x, rng=Rng(1)))
    assert int(end.x.max()) < K


@pytest.mark.parametrize("kind", ["absorbing", "uniform", "bits"])
def test_the_bound_of_two_calls_is_that_of_a_model_that_can_be_drawn_from(kind: str) -> None:
    """Of `SelfGuided` with scale 1, which calls twice at every level and hands nothing on."""
    rows, options = drawn_rows(joint(2), 50), {}
    if kind == "bits":
        table = Bits(3).table
        inner: nn.Module = CodeDenoiser(network(5, self_conditioning=True), Cosine(), table)
        diffusion, options = GaussianDiffusion(Cosine()), {"codec": inner}
    else:
        diffusion = made(kind)
        inner = ClassDenoiser(network(diffusion.width, self_conditioning=True), diffusion)
    carried, twice = SelfConditioned(inner), SelfGuided(inner, 1.0)
    both = nats_bound(carried, diffusion, rows, Rng(0), passes=2, each=True, **options)
    assert both.shape == (2, 50)
    for found, denoiser, passes in (
        (both[0], carried, 1),
        (both[1], carried, 2),
        (both[1], twice, 1),
    ):
        alone = nats_bound(denoiser, diffusion, rows, Rng(0), passes=passes, **options)
        torch.testing.assert_close(found, alone)
    assert float((both[0] - both[1]).abs().mean()) > 1e-3


@pytest.mark.parametrize(
    "schedule", [Cosine(), LinearGamma(), information_schedule(Bits(9).table, torch.ones(9))]
)
def test_levels_of_the_bound_are_drawn_with_the_density_that_is_said(schedule: Any) -> None:
    """Integrals over the log-SNR by draws at even places, of functions whose integral is known."""
    low, high = -6.0, 8.0
    place = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    level, density = _levels(schedule, low, high, torch.device("cpu"))(place)
    assert low <= float(level.min()) <= float(level.max()) <= high
    assert float((1 / density).mean()) == pytest.approx(high - low, rel=1e-4)
    assert float((level.sigmoid() / density).mean()) == pytest.approx(
        math.log1p(math.exp(high)) - math.log1p(math.exp(low)), rel=1e-3
    )
    # Half of them are even in the log-SNR, and half in the schedule's own time.
    for cut in (-2.0, 0.0, 3.0):
        ends = schedule.time(torch.tensor([high, cut, low], dtype=torch.float64)).tolist()
        share = (high - cut) / (high - low) / 2 + (ends[1] - ends[0]) / (ends[2] - ends[0]) / 2
        assert float((level > cut).double().mean()) == pytest.approx(share, abs=5e-3)


@pytest.mark.parametrize("told", [False, True])
def test_an_estimate_of_the_code_alone_is_that_with_zeros_before_it(told: bool) -> None:
    table, options = Bits(5).table, {"max_length": 4, "width": 16, "depth": 1, "heads": 2}
    n = table.shape[1]
    wide = Transformer(5 + n, 5, self_conditioning=True, **options)
    stirred(wide)
    narrow = Transformer(5 + n, 5, self_conditioning=True, estimate_features=n, **options)
    state = wide.state_dict()
    weight = state["input.weight"]  # of the state, of K zeros, of the code
    state["input.weight"] = torch.cat((weight[:, : 5 + n], weight[:, 10 + n :]), 1)
    narrow.load_state_dict(state)
    x, t = Rng(1).normal((3, 4, n)), torch.tensor([0.2, 0.5, 0.9])
    cond = {"estimate": Rng(2).normal((3, 4, n))} if told else {}
    one, two = (CodeDenoiser(net, Cosine(), table)(x, t, cond)[0].mean for net in (wide, narrow))
    torch.testing.assert_close(one, two)
