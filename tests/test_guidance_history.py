"""History guidance on Gaussians, whose scores under every view of the past are known.

Names say which of the checks of section 13.8 of the notes on Diffusion Forcing a test is.
"""

import itertools
import math

import pytest
import torch
from oracles import F64, Correlated
from torch import nn

from noiseloom.conditioning import SelfConditioned
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, Prediction
from noiseloom.guidance import (
    HistoryGuided,
    HistoryTerm,
    fractional_history,
    temporal_history,
    vanilla_history,
)
from noiseloom.guidance.history import _merge
from noiseloom.noise import EDM, LinearGamma
from noiseloom.plan import SamplingPlan
from noiseloom.rng import Rng
from noiseloom.sampling import ancestral, final, sample
from noiseloom.shapes import align
from noiseloom.sliding import slide

PHI, T = 0.8, 5
C = PHI ** (torch.arange(T, dtype=F64)[:, None] - torch.arange(T)).abs()
PAST, NEXT = [0, 1, 2], [3, 4]
SCHEDULE = LinearGamma(clip=0.0)  # alpha^2 = 1 - t, so that time 1 says nothing
DIFFUSION = GaussianDiffusion(SCHEDULE)
NOW = torch.tensor([[0.0, 0.0, 0.0, 0.7, 0.4]], dtype=F64)
LEVEL = 0.3


def guided(terms, history=PAST, denoiser=None):
    return HistoryGuided(denoiser or Correlated(SCHEDULE, C), DIFFUSION, terms, history=history)


def window(t=NOW, rows=4):
    clean = torch.linalg.cholesky(C) @ Rng(0).fold("x").normal((rows, T, 2), F64)
    return DIFFUSION.corrupt(clean, t, Rng(0).fold("noise"))


def say(guide, x=None, t=NOW, seed=0):
    x = window(t) if x is None else x
    return guide(x, t, rng=Rng(seed))[0].mean


def alone(x, t, causal=False):
    """What the process says of the next tokens without any history: their own marginal."""
    block = C[NEXT][:, NEXT]
    return Correlated(SCHEDULE, block, causal)(x[:, NEXT], t[:, NEXT])[0].mean


@pytest.mark.parametrize("causal", [False, True])
def test_check_13_8_a_scale_of_1_is_conditional_and_of_0_unconditional(causal):
    inner = Correlated(SCHEDULE, C, causal)
    plain = inner(window(), NOW)[0].mean
    for terms in (vanilla_history(1.0), fractional_history(1.0, LEVEL)):
        guide = guided(terms, denoiser=inner)
        assert torch.equal(guide(window(), NOW)[0].mean, plain)  # without a key
    for terms in (vanilla_history(0.0), [], [HistoryTerm(2.0, ())], [HistoryTerm(2.0, level=1.0)]):
        got = say(guided(terms, denoiser=inner))[:, NEXT]
        torch.testing.assert_close(got, alone(window(), NOW, causal))


def test_check_13_8_an_empty_history_is_unconditional():
    inner = Correlated(SCHEDULE, C)
    for terms in (vanilla_history(3.0), fractional_history(3.0, LEVEL)):
        guide = guided(terms, history=[], denoiser=inner)
        for t in (NOW, torch.tensor(0.5, dtype=F64)):
            inner.calls = 0
            assert torch.equal(guide(window(), t)[0].mean, inner(window(), t)[0].mean)
            assert inner.calls == 2


@pytest.mark.parametrize("w", [-1.0, 0.5, 2.0])
def test_check_13_8_differences_of_scores_are_weighed(w):
    without, with_ = alone(window(), NOW), say(guided(vanilla_history(1.0)))[:, NEXT]
    got = say(guided(vanilla_history(w)))
    torch.testing.assert_close(got[:, NEXT], without + w * (with_ - without))
    assert torch.equal(got[:, PAST], window()[:, PAST])
    # As scores, from the laws themselves: -(A S A + V)^-1 (x - A m), S and m given the past or not.
    alpha, sigma = SCHEDULE(NOW[0, NEXT])
    pull = torch.linalg.solve(C[PAST][:, PAST], C[PAST][:, NEXT]).T
    laws = [
        (torch.zeros(4, 2, 2, dtype=F64), C[NEXT][:, NEXT]),
        (pull @ window()[:, PAST], C[NEXT][:, NEXT] - pull @ C[PAST][:, NEXT]),
    ]
    x, scores = window()[:, NEXT], []
    for mean, cov in laws:
        total = alpha[:, None] * cov * alpha + sigma.square().diag()
        scores.append(-torch.linalg.solve(total, x - alpha[:, None] * mean))
    score = scores[0] + w * (scores[1] - scores[0])
    tweedie = (x + sigma.square()[:, None] * score) / alpha[:, None]
    torch.testing.assert_close(got[:, NEXT], tweedie)


def test_check_13_8_temporal_guidance_by_one_full_part_is_vanilla():
    for w in (0.0, 1.0, 2.5):
        a, b = (say(guided(v)) for v in (vanilla_history(w), temporal_history([PAST], [w])))
        assert torch.equal(a, b)
    # A part is the process given that part.
    for part in ([2], [0], [0, 2]):
        inside = [*part, *NEXT]
        law = Correlated(SCHEDULE, C[inside][:, inside])
        right = law(window()[:, inside], NOW[:, inside])[0].mean[:, -2:]
        got = say(guided(temporal_history([part], [1.0])))
        torch.testing.assert_close(got[:, NEXT], right)


@pytest.mark.parametrize(
    "terms",
    [
        vanilla_history(2.0),
        fractional_history(2.0, LEVEL),
        temporal_history([[0, 1], [2]], [0.9, 1.4]),
    ],
    ids=["vanilla", "fractional", "temporal"],
)
def test_check_13_8_constants_shift_through(terms):
    """All weights, that of no history included, add up to 1."""

    class Shifted(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, x, t, cond=None, carry=None, rng=None):
            alpha, _ = SCHEDULE(align(t, x))
            inner = Correlated(SCHEDULE, C)(x - alpha * self.shift, t)[0].mean
            return Prediction(inner + self.shift), {}

    alpha, _ = SCHEDULE(NOW[..., None])
    plain = say(guided(terms))
    moved = say(guided(terms, denoiser=Shifted(3.0)), window() + 3.0 * alpha)
    torch.testing.assert_close(moved, plain + 3.0)


def test_check_13_8_composing_means_eps_and_states_agree_for_ddim_only():
    terms = [HistoryTerm(1.3), HistoryTerm(0.6, level=LEVEL), HistoryTerm(-0.4, (1, 2))]
    weights = [1 - 1.5, 1.3, 0.6, -0.4]
    views = [[], terms[:1], terms[1:2], terms[2:]]
    x, t, s = window()[:, NEXT], NOW[:, NEXT], NOW[:, NEXT] / 2
    alone_at_1 = [HistoryTerm(1.0, v[0].tokens, v[0].level) if v else HistoryTerm(0) for v in views]
    means = [say(guided([view]))[:, NEXT] for view in alone_at_1]
    alpha, sigma = SCHEDULE(t[..., None])
    each = [(x - alpha * mean) / sigma for mean in means]
    eps = sum(w * e for w, e in zip(weights, each, strict=True))
    by_eps = Prediction((x - sigma * eps) / alpha)
    by_means = Prediction(say(guided(terms))[:, NEXT])
    torch.testing.assert_close(by_means.mean, by_eps.mean)

    def ends(eta):
        def move(prediction, seed):
            return DIFFUSION.reverse(x, prediction, t, s, Rng(seed), stochasticity=eta)

        pairs = zip(weights, means, strict=True)
        moved = [w * move(Prediction(m), i) for i, (w, m) in enumerate(pairs)]
        return move(by_means, 0), sum(moved)

    torch.testing.assert_close(*ends(0.0))
    a, b = ends(1.0)
    assert float((a - b).abs().max()) > 0.1


def test_check_13_8_vanilla_samples_are_an_exact_linear_map_of_noise():
    """Of the two laws, composed by hand row by row, for the whole of a sampler."""
    w, steps = 2.0, 12
    plan = SamplingPlan.pyramid(steps, T, 2).hold(PAST)
    past = window()[:1, PAST, :1]
    start = torch.cat((past.expand(1, 3, 3), torch.eye(3, dtype=F64)[1:][None]), 1)
    steps = sample(guided(vanilla_history(w)), DIFFUSION, plan, start, rng=Rng(0))
    got = final(steps).x[0]  # channels: noise 0, and the two unit vectors
    pull = torch.linalg.solve(C[PAST][:, PAST], C[PAST][:, NEXT]).T
    block, m = C[NEXT][:, NEXT], pull @ past[0]
    left = block - pull @ C[PAST][:, NEXT]
    gain, shift = torch.eye(2, dtype=F64), torch.zeros(2, 1, dtype=F64)
    for t, s in zip(plan.t[:, 0, NEXT], plan.s[:, 0, NEXT], strict=True):
        (a, sd), (a_s, sd_s) = SCHEDULE(t), SCHEDULE(s)
        free, held = (Correlated(SCHEDULE, cov).gain(a, sd) for cov in (block, left))
        slope = (1 - w) * free + w * held
        offset = w * (m - held @ (a[:, None] * m))
        ratio = (sd_s / torch.where(sd > 0, sd, 1)).where(t != s, 1)
        own = (a_s - ratio * a).where(t != s, 0)
        move = ratio.diag() + own[:, None] * slope
        gain, shift = move @ gain, move @ shift + own[:, None] * offset
    torch.testing.assert_close(got[NEXT, :1], shift)
    torch.testing.assert_close(got[NEXT, 1:] - shift, gain)
    assert torch.equal(got[PAST], start[0, PAST])


@pytest.mark.parametrize("w", [0.5, 1.0, 3.0])
def test_check_13_8_vanilla_variance_is_a_geometric_mean(w):
    """One next token: the flow of composed scores ends at variance v_0^(1 - w) v_H^w.

    Which is not that of the product of laws, 1 / ((1 - w) / v_0 + w / v_H): composed scores are not
    the scores of a noised law.
    """
    cov = C[:2, :2]
    left = 1 - PHI * PHI
    errors = []
    for steps in (100, 400):
        times = torch.linspace(0, math.pi / 2, steps + 1, dtype=F64).sin().square()
        times[-1] = 1.0
        plan = SamplingPlan.full_sequence(steps, 2, times=times).hold([0])
        guide = guided(vanilla_history(w), [0], Correlated(SCHEDULE, cov))
        x = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]], dtype=F64)
        end = final(sample(guide, DIFFUSION, plan, x, rng=Rng(0))).x[0, 1]
        errors.append(abs(float((end[1] - end[0]) ** 2) - left**w))
    assert errors[1] < 0.01
    assert 0.7 < math.log(errors[0] / errors[1], 4) < 1.3


class Frames(nn.Module):
    """Two frames of a stationary signal: spectrum S over axis 2, correlation PHI in time."""

    def __init__(self, spectrum):
        super().__init__()
        angle = 2 * math.pi * torch.outer(torch.arange(8), torch.arange(8)).to(F64) / 8
        self.modes = (angle.cos() + angle.sin()) / math.sqrt(8)  # Hartley's, orthogonal
        self.spectrum = spectrum

    def forward(self, x, t, cond=None, carry=None, rng=None):
        mean = torch.empty_like(x)
        for f, power in enumerate(self.spectrum):
            law = Correlated(SCHEDULE, power * C[:2, :2])
            mean[..., f : f + 1] = law((x @ self.modes)[..., f : f + 1], t)[0].mean
        return Prediction(mean @ self.modes.T), {}


def test_check_13_8_fractional_masking_is_a_low_pass_filter():
    """A mode of power S passes noise of variance sigma^2 / alpha^2 by S / (S + that)."""
    k = torch.arange(8)
    spectrum = 3.0 * 0.2 ** torch.minimum(k, 8 - k).to(F64)
    frames = Frames(spectrum)
    t = torch.tensor([[0.0, 1.0]], dtype=F64)
    x = Rng(0).normal((3, 2, 8), F64)
    dark = x.clone()
    dark[:, 0] = 0
    alpha, sigma = SCHEDULE(torch.tensor(LEVEL, dtype=F64))
    for level, left in (
        (0.0, torch.ones(8)),
        (LEVEL, spectrum / (spectrum + (sigma / alpha) ** 2)),
    ):
        guide = guided([HistoryTerm(1.0, level=level)], [0], frames)
        # The same noise on a history and on none: the difference is the response to the history.
        response = (say(guide, x, t) - say(guide, dark, t))[:, 1] @ frames.modes
        torch.testing.assert_close(response, PHI * left.to(F64) * (x[:, 0] @ frames.modes))
    assert left[0] > 0.8
    assert left[4] < 0.02


@pytest.mark.parametrize(
    ("terms", "calls"),
    [
        (vanilla_history(1.0), 1),
        (vanilla_history(0.0), 1),
        (vanilla_history(2.0), 2),
        (temporal_history([[0, 1], [1, 2], [2]], [0.5, 0.7, 2.0]), 4),
        (temporal_history([[0, 1], [2]], [0.5, 0.5]), 2),
        (temporal_history([PAST, [1], [1]], [0.1, 0.2, 0.7]), 2),
        (temporal_history([PAST, [1], [0]], [0.5, 0.0, 1.0]), 3),
        (temporal_history([[2, 0], [0, 2, 2]], [1.0, 1.0]), 2),
        (fractional_history(2.0, LEVEL), 3),
        (fractional_history(1.0, LEVEL), 1),
        (fractional_history(2.0, 0.0), 2),
        (fractional_history(2.0, 1.0), 1),
        ((*vanilla_history(1.5), *fractional_history(2.0, LEVEL)), 3),
        ((*vanilla_history(2.0), *vanilla_history(-2.0)), 1),
    ],
)
def test_check_13_8_calls_per_step_after_merging(terms, calls):
    guide = guided(terms)
    say(guide)
    assert guide.denoiser.calls == calls
    assert sum(weight for *_, weight in _merge(terms, tuple(PAST))) == pytest.approx(1)


class Views(nn.Module):
    """Keeps what it is shown; counts its calls in the carry."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, cond=None, carry=None, rng=None):
        self.seen.append((x, t))
        count = carry["calls"]["n"] + 1 if carry else torch.ones(len(x))
        return Prediction(0 * x), {"calls": {"n": count}}


def test_branches_see_one_future_and_one_noise_each_with_its_carry():
    held = NOW.clone()
    held[:, PAST] = 0.1
    terms = [HistoryTerm(2.0), HistoryTerm(1.0, level=LEVEL), HistoryTerm(0.5, (0, 2), 0.05)]
    guide, x, rng = guided(terms, denoiser=Views()), window(held), Rng(0).samples(4)
    mean, carry = guide(x, held, rng=rng)
    seen = guide.denoiser.seen
    past = [t[0, PAST, 0].tolist() for _, t in seen]
    assert past == [[1, 1, 1], [0.1, 0.1, 0.1], [LEVEL] * 3, [0.1, 1, 0.1]]
    for view, t in seen:
        assert torch.equal(view[:, NEXT], x[:, NEXT])
        assert torch.equal(t[0, NEXT, 0], held[0, NEXT])
    noise, clean, blurred, part = (view[:, PAST] for view, _ in seen)
    assert torch.equal(clean, x[:, PAST])
    assert torch.equal(part[:, 1], noise[:, 1])
    assert torch.equal(part[:, [0, 2]], clean[:, [0, 2]])  # already noisier than asked for
    assert torch.equal(noise, DIFFUSION.prior(x, rng.fold("history"))[:, PAST])
    level = torch.tensor(LEVEL, dtype=F64)
    again = DIFFUSION.renoise(x, torch.tensor(0.1, dtype=F64), level, rng.fold("history"))
    torch.testing.assert_close(blurred, again[:, PAST])
    assert torch.equal(mean.mean[:, PAST], x[:, PAST])
    # The next step has other noise, and each branch its own count.
    _, carry = guide(x, held, None, {**carry, "other": {}}, rng.fold("step", 1))
    assert not torch.equal(guide.denoiser.seen[4][0][:, PAST], noise)
    assert [tree["calls"]["n"][0] for tree in carry["history_guided"].values()] == [2] * 4
    assert "other" in carry
    # A sample sees the same noise in any batch.
    guide(x[1:3], held, rng=rng.rows(torch.tensor([1, 2])))
    assert torch.equal(guide.denoiser.seen[8][0], seen[0][0][1:3])


def test_an_estimate_says_nothing_of_what_a_view_hides_or_blurs():
    told, x = [], window()

    class Told(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append(cond["estimate"])
            return Prediction(0 * x), {}

    terms = [HistoryTerm(2.0), HistoryTerm(1.0, level=LEVEL), HistoryTerm(0.5, (0, 2))]
    guide, estimate = guided(terms, denoiser=Told()), torch.ones_like(x)
    guide(x, NOW, {"estimate": estimate}, rng=Rng(0))
    assert [e[0, :, 0].tolist() for e in told] == [
        [0, 0, 0, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1],
        [1, 0, 1, 1, 1],
    ]
    held = NOW.clone()
    held[:, PAST] = LEVEL  # what is as noisy already is shown as it is
    guide(x, held, {"estimate": estimate}, rng=Rng(0))
    assert torch.equal(told[6], estimate)


def test_an_estimate_of_classes_is_hidden_with_its_tokens():
    """In a loop each branch is told the guided probabilities of the step before, where it may."""
    told, K = [], 5

    class Told(nn.Module):
        def forward(self, x, t, cond=None, carry=None, rng=None):
            told.append(cond["estimate"])
            logits = Rng(len(told)).normal((*x.shape, K), F64).log_softmax(-1)
            return Prediction(logits.exp(), logits), {}

    diffusion = CategoricalDiffusion(K, kind="uniform")
    guide = HistoryGuided(Told(), diffusion, vanilla_history(2.0), history=[0, 1])
    plan = SamplingPlan.full_sequence(3, 4).hold([0, 1])
    x = diffusion.prior((3, 4), Rng(0))
    steps = list(sample(SelfConditioned(guide), diffusion, plan, x, rng=Rng(0)))
    assert not any(estimate.any() for estimate in told[:2])
    for step, (hidden, shown) in zip(steps, zip(told[2::2], told[3::2], strict=True), strict=False):
        assert torch.equal(shown, step.prediction.mean)
        assert torch.equal(hidden[:, 2:], shown[:, 2:])
        assert not hidden[:, :2].any()


def test_a_masked_history_says_nothing_even_where_signal_is_left_at_time_1():
    views, x = Views(), window()
    guide = HistoryGuided(views, GaussianDiffusion(EDM()), vanilla_history(0.0), history=PAST)
    for shift in (0.0, 5.0):
        guide(torch.cat((x[:, PAST] + shift, x[:, NEXT]), 1), NOW, rng=Rng(0))
    assert torch.equal(views.seen[0][0], views.seen[1][0])


def test_a_loop_holds_the_history_and_may_draw_noise():
    plan = SamplingPlan.full_sequence(5, T).hold(PAST)
    x = window(plan.t[0])
    guide = guided(fractional_history(2.0, LEVEL))
    end = final(sample(guide, DIFFUSION, plan, x, rng=Rng(0), solver=ancestral(1))).x
    assert torch.equal(end[:, PAST], x[:, PAST])
    assert guide.denoiser.calls == 15


@pytest.mark.parametrize("known", [0, 1, 5])
def test_a_history_may_grow_with_windows_that_slide(known):
    law = PHI ** (torch.arange(4, dtype=F64)[:, None] - torch.arange(4)).abs()

    class Window(nn.Module):
        """The process on windows of any length; guided anew for each, where terms are given."""

        def __init__(self, terms=None):
            super().__init__()
            self.terms, self.lengths = terms, []

        def forward(self, x, t, cond=None, carry=None, rng=None):
            n = x.shape[1]
            self.lengths.append(n)
            inner = Correlated(SCHEDULE, law[:n, :n])
            if self.terms is None:
                return inner(x, t)
            guide = HistoryGuided(inner, DIFFUSION, self.terms, history=range(n - 1))
            return guide(x, t, rng=rng)

    terms = vanilla_history(2.0)
    inner = Window()
    growing = HistoryGuided(inner, DIFFUSION, terms, history=slice(-1))
    context = Rng(0).normal((2, known, 3), F64)
    made = []
    for denoiser in (growing, Window(terms)):
        steps = slide(
            denoiser, DIFFUSION, SamplingPlan.uniform(3), context, window=4, chunk=1, rng=Rng(1)
        )
        made.append(torch.cat([step.x for step in itertools.islice(steps, 5)], 1))
    assert torch.equal(*made)
    assert set(inner.lengths) == set(range(min(known + 1, 4), 5))
    plain = slide(inner, DIFFUSION, SamplingPlan.uniform(3), context, window=4, chunk=1, rng=Rng(1))
    assert not torch.equal(torch.cat([next(plain).x, next(plain).x], 1), made[0][:, :2])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"shows token 3, which is not history \(0, 1, 2\)"):
        guided(temporal_history([[0, 3]], [1.0]))
    with pytest.raises(ValueError, match="count from 0, got -1"):
        guided(vanilla_history(1.0), history=[-1])
    with pytest.raises(ValueError, match="1 subsets need as many weights, got 2"):
        temporal_history([[0]], [1.0, 2.0])
    for wrong in ({"level": 1.5}, {"level": -0.1}, {"weight": math.nan}):
        with pytest.raises(ValueError, match="finite weight and a level"):
            HistoryTerm(**{"weight": 1.0, **wrong})
    guide = guided(vanilla_history(2.0))
    for t in (torch.tensor(0.5), torch.full((4, 1), 0.5)):
        with pytest.raises(ValueError, match="does not say theirs"):
            guide(window(), t, rng=Rng(0))
    with pytest.raises(ValueError, match="tokens up to 7 are history"):
        guided(vanilla_history(2.0), history=[7])(window(), NOW, rng=Rng(0))
    with pytest.raises(ValueError, match="give rng"):
        guide(window(), NOW)
