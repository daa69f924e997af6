"""The loss of a guide and its regularisers: what they compute, what they touch, what they leave.

Names say which of the checks of section 10 of the notes on Context-Guided Diffusion a test is.
"""

import itertools
import math

import pytest
import torch
from oracles import F64
from torch import nn

from noiseloom.context import (
    Context,
    ContextRegulariser,
    DeepCoral,
    DomainAdversarial,
    DomainConfusion,
    Guide,
    GuideEnsemble,
    GuideOutput,
    Kernel,
    ParameterPrior,
    Shown,
    constant_covariance,
    context_energy,
    draw_context,
    gaussian_nll,
    guide_loss,
    make_regulariser,
    noised,
)
from noiseloom.diffusion import CategoricalDiffusion, GaussianDiffusion, ProductDiffusion
from noiseloom.nets import MLP
from noiseloom.noise import EDM, Cosine, LinearGamma
from noiseloom.rng import Rng
from noiseloom.training import Training, train

B, M, D, F = 12, 20, 3, 5


def build():
    return MLP(D, F, width=8, depth=1)


def made(targets=1, diffusion=None, seed=0, network=None):
    with Rng(seed).torch():
        own = network or build()
        for parameter in own.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5)
        guide = Guide(own, diffusion or GaussianDiffusion(), F, targets)
    guide.fit(labels(targets))
    return guide


def states(count=B, seed=1):
    return Rng(seed).normal((count, D))


def labels(targets=1):
    return 3 + 2 * Rng(2).normal((B, targets))


def context(count=M, seed=3):
    return Context(Rng(seed).fold("x").normal((count, D)) + 1, Rng(seed).fold("draws"))


NAMES = ("context", "parameter-prior", "coral", "adversarial", "confusion")
OPTIONS = {"parameter-prior": {"variance": 2.0}}
terms = pytest.mark.parametrize("name", NAMES)


def term_of(name, **options):
    return make_regulariser(name, build, F, B, Rng(4), **OPTIONS.get(name, {}), **options)


# The likelihood


def test_check_9_the_likelihood_is_the_gaussian_and_shapes_must_be_equal():
    y, mean, s = (Rng(i).normal((6, 2), F64) for i in range(3))
    s = s.exp()
    right = -torch.distributions.Normal(mean, s.sqrt()).log_prob(y)
    torch.testing.assert_close(gaussian_nll(y, mean, s), right)
    each = torch.stack([gaussian_nll(y[i], mean[i], s[i]) for i in range(6)])
    assert torch.equal(gaussian_nll(y, mean, s), each)
    for wrong in [(y, mean[:, 0], s[:, 0]), (y[:, :1], mean[:, 0], s[:, 0]), (y[:, 0], mean, s)]:
        with pytest.raises(ValueError, match="the three must be equal"):
            gaussian_nll(*wrong)


def test_check_9_the_loss_of_a_batch_is_that_of_its_samples_one_by_one():
    guide, x, y = made(2), states(), labels(2)
    rng = Rng(5).samples(B)
    whole = guide_loss(guide, x, y, rng)
    single = [
        guide_loss(guide, x[i : i + 1], y[i : i + 1], rng.rows(torch.tensor([i]))) for i in range(B)
    ]
    torch.testing.assert_close(whole, torch.cat(single), rtol=1e-5, atol=1e-6)
    assert whole.shape == (B,)
    with pytest.raises(ValueError, match=r"labels of shape \(12,\): expected \(B, 2\)"):
        guide_loss(guide, x, y[:, 0], rng)


def test_the_loss_is_the_mean_over_properties_of_what_each_label_costs():
    """Whose terms are shared by the number of labels, B J: a sum would make them J times weaker."""
    guide, y = made(3), labels(3)
    x, t, cond = noised(guide.diffusion, states(), Rng(5))
    said = guide(x, t, cond)
    law = torch.distributions.Normal(said.mean, said.variance.sqrt())
    right = -law.log_prob((y - y.mean(0)) / y.std(0, correction=0)).mean(1)
    torch.testing.assert_close(guide_loss(guide, states(), y, Rng(5)), right)


class Watching(nn.Module):
    """A guide's network that keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.inner, self.given = build(), []

    def forward(self, x, log_snr, cond=None):
        self.given.append((x, log_snr, cond))
        return self.inner(x, log_snr, cond)


def test_each_state_has_its_own_time_and_both_batches_go_through_the_network_at_once():
    network = Watching()
    guide = made(network=network)
    guide_loss(guide, states(), labels(), Rng(5))
    alone = network.given.pop()
    guide_loss(guide, states(), labels(), Rng(5), context=context(), term=DeepCoral())
    (both,) = network.given
    assert torch.equal(both[0][:B], alone[0])  # the context's draws are its own
    assert torch.equal(both[1][:B], alone[1])
    assert len(both[0]) == B + M == len(both[1].unique()) == len(both[2]["dropout"].unique())
    x, t, _ = noised(guide.diffusion, context().state, context().rng)
    alpha, sigma = Cosine()(t)
    torch.testing.assert_close(both[1][B:], Cosine().log_snr(t).clamp(-20, 20))
    torch.testing.assert_close(both[0][B:], x * (alpha**2 + sigma**2).rsqrt()[:, None])


def test_states_are_noised_by_their_diffusion_and_hardly_at_time_0():
    clean = {"a": Rng(0).normal((4000, 1)), "b": torch.ones(4000, 2, dtype=torch.int64)}
    diffusion = ProductDiffusion({"a": GaussianDiffusion(EDM()), "b": CategoricalDiffusion(3)})
    for time in (0.0, 0.6):
        times = lambda n, rng, device, time=time: torch.full(n, time)  # noqa: E731
        x, t, _ = noised(diffusion, clean, Rng(1), times=times)
        assert t.shape == (4000,)
        sigma = float(EDM()(torch.tensor(time))[1])
        spread = float((x["a"] - clean["a"]).std())
        assert spread == pytest.approx(sigma, rel=0.06, abs=1e-12)
        masks = float((x["b"] == 3).float().mean())
        assert masks == pytest.approx(time, abs=5 * math.sqrt(time * (1 - time) / 8000))


def test_noise_knows_nothing_of_the_time():
    n = 20000
    x, t, _ = noised(GaussianDiffusion(), torch.zeros(n, 1, dtype=F64), Rng(1))
    noise = x[:, 0] / Cosine()(t)[1]
    classes = CategoricalDiffusion(3, schedule=LinearGamma(clip=0.0))  # masked by chance t
    x, chance, _ = noised(classes, torch.ones(n, 1, dtype=torch.int64), Rng(1))
    masked = (x[:, 0] == 3).double() - chance
    for time, value in ((t, noise), (t, noise.square()), (t, noise.abs()), (chance, masked)):
        pair = torch.stack((time.double(), value.double()))
        assert abs(float(pair.corrcoef()[0, 1])) < 5 / n**0.5


def test_an_ensemble_is_trained_as_its_members_each_with_draws_of_its_own():
    members = [made(seed=i) for i in range(2)]
    own = GuideEnsemble(members)
    term = term_of("context")
    loss = guide_loss(own, states(), labels(), Rng(6), context=context(), term=term)
    each = []
    for i, member in enumerate(members):
        given = Context(context().state, context().rng.fold("member", i))
        key = Rng(6).fold("member", i)
        each.append(guide_loss(member, states(), labels(), key, context=given, term=term))
    assert torch.equal(loss, each[0] + each[1])


# Without a term


def weights(guide, term, steps=3, seed=7, **options):
    parameters = [*guide.parameters()]
    if isinstance(term, nn.Module):
        parameters += term.parameters()
    adam = torch.optim.Adam(parameters, 1e-2)
    for i in range(steps):
        key, draws = Rng(seed).fold("step", i), Context(context().state, Rng(8).fold("step", i))
        loss = guide_loss(guide, states(), labels(), key, context=draws, term=term, **options)
        loss.mean().backward()
        adam.step()
        adam.zero_grad()
    return torch.cat([p.detach().flatten() for p in guide.parameters()])


@terms
def test_check_10_weight_0_is_without_a_term_bit_for_bit(name):
    plain = weights(made(), None)
    assert torch.equal(weights(made(), term_of(name, weight=0.0)), plain)
    assert not torch.equal(weights(made(), term_of(name)), plain)


@pytest.mark.parametrize("needs_context", [False, True])
def test_check_10_at_weight_0_a_term_is_never_asked_nor_its_context_shown(needs_context):
    class Never:
        weight = 0.0

        def __call__(self, guide, labelled, context):
            raise AssertionError

    term, network = Never(), Watching()
    term.needs_context = needs_context
    guide = made(network=network)
    plain = guide_loss(guide, states(), labels(), Rng(5))
    for given in (None, context()):
        loss = guide_loss(guide, states(), labels(), Rng(5), context=given, term=term)
        assert torch.equal(loss, plain)
    assert {len(x) for x, _, _ in network.given} == {B}


def test_regularisers_are_picked_by_name():
    assert term_of("none") is None
    kinds = (ContextRegulariser, ParameterPrior, DeepCoral, DomainAdversarial, DomainConfusion)
    assert [type(term_of(name)) for name in NAMES] == list(kinds)
    with pytest.raises(ValueError, match=r"one of none, context, .*, got 'dropout'"):
        term_of("dropout")


# The context regulariser


def shown(guide, count=M, seed=3):
    given = context(count, seed)
    x, t, cond = noised(guide.diffusion, given.state, given.rng)
    return Shown(x, t, cond, guide(x, t, cond))


@pytest.mark.parametrize(("reference", "share"), [(512, 512 / M), (None, 1.0)])
def test_the_term_has_the_scale_that_is_documented(reference, share):
    guide = made(2)
    term = ContextRegulariser(
        build, Rng(0), samples=70, sigma=0.3, tau=0.2, variance=1.5, weight=3.0, reference=reference
    )
    given = shown(guide)
    energy = context_energy(
        given.output.mean, given.output.variance, term.kernel(guide, given), variance_target=1.5
    )
    right = 3 * share * float(energy.detach()) / (70 * 2)
    assert float(term(guide, given, given).detach()) == pytest.approx(right, rel=1e-6)
    y = labels(2)
    plain = guide_loss(guide, states(), y, Rng(5))
    with_ = guide_loss(guide, states(), y, Rng(5), context=context(), term=term)
    torch.testing.assert_close(with_ - plain, torch.full((B,), right), rtol=1e-4, atol=1e-4)


def test_the_kernel_has_the_multipliers_of_each_states_time():
    guide = made()
    term = ContextRegulariser(build, Rng(0), samples=B, sigma=0.7, tau=0.2)
    given = shown(guide)
    kernel = term.kernel(guide, given)
    up = (7 * (given.t.double() - 0.5)).sigmoid() + 0.1
    torch.testing.assert_close(kernel.tau, 0.2 * up)
    h = term.random(*guide.inputs(given.x, given.t), given.cond).double()
    torch.testing.assert_close(kernel.root, h * (0.7 * (1.2 - up)).sqrt()[:, None])
    assert h.std() > 0.1  # random networks that start at zero have been stirred


def test_check_5_the_random_network_is_never_trained():
    guide, term = made(), term_of("context")
    before = {name: value.clone() for name, value in term.state_dict().items()}
    assert not list(term.parameters())
    weights(guide, term, steps=5)
    after = term.state_dict()
    assert before.keys() == after.keys() != set()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(value.requires_grad for value in after.values())
    guide.zero_grad()
    given = shown(guide)
    kernel = term.kernel(guide, given)
    assert not kernel.factor.requires_grad
    assert not kernel.root.requires_grad
    term(guide, given, given).backward()
    assert all(p.grad is not None for p in guide.heads.parameters())


def test_a_loaded_term_goes_on_with_the_same_features_and_training_mode_changes_nothing():
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.drop = build(), nn.Dropout(0.5)

        def forward(self, x, log_snr, cond=None):
            return self.drop(self.inner(x, log_snr, cond))

    guide = made()
    one, two = (ContextRegulariser(Dropping, Rng(seed), samples=B, sigma=1.0) for seed in range(2))
    given = shown(guide)
    assert not torch.equal(one(guide, given, given), two(guide, given, given))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.train()(guide, given, given), two.eval()(guide, given, given))


@pytest.mark.parametrize(("sigma", "invariant"), [(0.0, True), (0.8, False)])
def test_check_11_the_mean_gradient_of_r_over_m_knows_m_unless_sigma_is_0(sigma, invariant):
    """Over all contexts of M of 6 states: exact."""
    h, f = Rng(0).normal((6, 3), F64), Rng(1).normal((6, 1), F64)
    tau = 0.3 + Rng(2).uniform((6,), F64)
    slopes = []
    for size in (1, 2, 3, 6):
        leaf = f.clone().requires_grad_()
        each = []
        for chosen in itertools.combinations(range(6), size):
            i = list(chosen)
            kernel = Kernel(h[i], torch.full((size,), sigma, dtype=F64), tau[i])
            each.append(context_energy(leaf[i], leaf[i].exp(), kernel) / size)
        torch.stack(each).mean().backward()
        slopes.append(leaf.grad)
    for other in slopes[1:]:
        off = float((other - slopes[0]).norm() / slopes[0].norm())
        assert (off < 1e-12) if invariant else (off > 0.1)


# The others


def given_embeddings(first, second):
    """Batches as shown, of embeddings alone."""
    none = torch.zeros(0)
    return [Shown(none, none, {}, GuideOutput(none, none, e)) for e in (first, second)]


def test_the_parameter_prior_is_half_the_square_over_the_variance():
    guide = made(2)
    theta = torch.cat([p.detach().flatten() for p in guide.parameters()])
    term = ParameterPrior(variance=0.3, samples=50, weight=2.0)
    right = 2 * float(theta.square().sum()) / (2 * 0.3 * 50 * 2)
    assert float(term(guide, shown(guide), None).detach()) == pytest.approx(right, rel=1e-6)


def test_coral_is_the_gaps_of_mean_and_covariance():
    first, second = Rng(0).normal((30, 4), F64), 2 * Rng(1).normal((20, 4), F64) + 1
    got = DeepCoral(weight=3.0)(None, *given_embeddings(first, second))
    mean = (first.mean(0) - second.mean(0)).square().mean()
    gap = (first.T.cov() - second.T.cov()).square().mean()
    torch.testing.assert_close(got, 3 * (mean + gap))
    moved = Rng(2).permutation(30)
    same = DeepCoral()(None, *given_embeddings(first, first[moved]))
    assert float(same) < 1e-28
    with pytest.raises(ValueError, match="needs two states, got 30, 1"):
        DeepCoral()(None, *given_embeddings(first, first[:1]))


def domains(seed=0, count=200):
    """Embeddings of two domains that a line tells apart: their first entries are at -1 and 1."""
    first, second = (Rng(seed).fold(n).normal((count, F), F64) for n in ("a", "b"))
    shift = torch.zeros(F, dtype=F64)
    shift[0] = 1.0
    return first - shift, second + shift


def told_apart(term, first, second):
    with torch.no_grad():
        right = (term.classifier(first) > 0).sum() + (term.classifier(second) < 0).sum()
    return float(right) / (len(first) + len(second))


def domain_term(kind, weight=1.0):
    return kind(F, Rng(3), weight).double()


kinds = pytest.mark.parametrize("kind", [DomainAdversarial, DomainConfusion])


@kinds
def test_classifiers_of_domains_are_trained(kind):
    term, (first, second) = domain_term(kind), domains()
    best = float(torch.special.ndtr(torch.tensor(1.0)))  # Bayes: the sign of the first entry
    descend(term.parameters(), lambda: term(None, *given_embeddings(first, second)), 200, 0.05)
    fresh = domains(1, 4000)
    assert told_apart(term, *fresh) == pytest.approx(best, abs=0.02)
    assert told_apart(domain_term(kind), *fresh) < best - 0.05


def test_adversarial_features_climb_what_the_classifier_descends():
    first, second = domains()
    slopes = {}
    for weight in (0.0, 1.0, 2.5):
        term = domain_term(DomainAdversarial, weight)
        leaf = first.clone().requires_grad_()
        term(None, *given_embeddings(leaf, second)).backward()
        slopes[weight] = leaf.grad, term.classifier.weight.grad
    term = domain_term(DomainAdversarial)
    leaf = first.clone().requires_grad_()
    a, b = term.classifier(leaf)[:, 0], term.classifier(second)[:, 0]
    loss = nn.functional.binary_cross_entropy_with_logits(a, torch.ones_like(a)) / 2
    loss = loss + nn.functional.binary_cross_entropy_with_logits(b, torch.zeros_like(b)) / 2
    loss.backward()
    for weight, (features, classifier) in slopes.items():
        torch.testing.assert_close(features, -weight * leaf.grad)
        torch.testing.assert_close(classifier, term.classifier.weight.grad)


def test_confusing_features_and_telling_classifiers_do_not_touch_each_other():
    first, second = domains()
    term = domain_term(DomainConfusion, 2.0)
    leaf = first.clone().requires_grad_()
    term(None, *given_embeddings(leaf, second)).backward()
    telling = domain_term(DomainAdversarial, 0.0)
    telling(None, *given_embeddings(first, second)).backward()
    torch.testing.assert_close(term.classifier.weight.grad, telling.classifier.weight.grad)
    # Of the cross-entropy with one half: (logistic(z) - 1/2) w; a domain counts half.
    w = term.classifier.weight.detach()
    z = first @ w.T + term.classifier.bias.detach()
    right = 2.0 * (z.sigmoid() - 0.5) * w / (2 * len(first))
    torch.testing.assert_close(leaf.grad, right)


def features_of():
    with Rng(0).torch():
        return nn.Linear(F, F, dtype=F64)


def descend(parameters, loss, steps, rate):
    adam = torch.optim.Adam(parameters, rate)
    for _ in range(steps):
        adam.zero_grad()
        loss().backward()
        adam.step()


@pytest.mark.parametrize("name", ["coral", "adversarial"])
def test_domains_come_together(name):
    """A linear map of two clouds and a classifier, trained side by side for the term alone."""
    (first, second), features, term = domains(), features_of(), term_of(name)
    own = list(term.double().parameters()) if isinstance(term, nn.Module) else []

    def distance():
        with torch.no_grad():
            a, b = features(first), features(second)
            return float((a.mean(0) - b.mean(0)).norm() / a.std())

    before = distance()
    both = [*features.parameters(), *own]
    descend(
        both, lambda: term(None, *given_embeddings(features(first), features(second))), 200, 0.02
    )
    assert distance() < 0.4 * before


@kinds
def test_features_confuse_a_classifier_that_can_tell(kind):
    """The two steps one after the other: as a game it need not settle."""
    (first, second), features, term = domains(), features_of(), domain_term(kind)

    def loss():
        return term(None, *given_embeddings(features(first), features(second)))

    descend(term.parameters(), loss, 200, 0.05)
    sure = told_apart(term, features(first), features(second))
    descend(features.parameters(), loss, 60, 0.02)
    with torch.no_grad():
        said = [term.classifier(features(e)) for e in (first, second)]
    assert sure > 0.8
    if kind is DomainConfusion:  # it says one half of nearly all
        assert max(float((s.sigmoid() - 0.5).abs().mean()) for s in said) < 0.05
    else:  # it is sent to the wrong side
        assert told_apart(term, features(first), features(second)) < 0.5


def test_labels_of_a_context_are_never_asked_for():
    assert not {"label", "labels"} & set(Context.__dataclass_fields__)
    assert not {"label", "labels"} & set(Shown.__dataclass_fields__)


# In a training loop


@pytest.mark.parametrize("count", [1, 5, 12, 30])
@pytest.mark.parametrize("each", [True, False])
def test_contexts_are_drawn_evenly_and_each_state_has_a_key_of_its_own(count, each):
    states = {"a": torch.arange(7.0)[:, None], "b": torch.arange(7)[:, None]}
    cond, seen = {"mask": torch.arange(7) % 2 == 0, "kind": "x"}, []
    for step in range(400):
        rng = Rng(0).fold("step", step)
        drawn = draw_context(states, count, rng.samples(12) if each else rng, cond=cond)
        assert len(drawn.rng.key.unique()) == count == len(drawn.state["a"])
        assert torch.equal(drawn.state["a"], drawn.state["b"].float())
        assert torch.equal(drawn.cond["mask"], drawn.state["b"][:, 0] % 2 == 0)
        seen.append(drawn.state["b"])
    n = 400 * count
    counts = torch.bincount(torch.cat(seen)[:, 0], minlength=7).double()
    assert float(((counts - n / 7) ** 2 / (n / 7)).sum()) < 22.5  # 0.1 % of chi^2 with 6


class Labelled:
    def __len__(self):
        return 40

    def __getitem__(self, indices):
        x = Rng(1).normal((40, D))
        return {"x": x[indices], "y": (3 + 2 * x[:, :1])[indices]}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_resumed_ends_where_it_would_have(tmp_path, name):
    """Features and classifiers come from the checkpoint: those it is built with are others."""

    def model(seed):
        term = make_regulariser(name, build, F, 40, Rng(seed).fold("term"), **OPTIONS.get(name, {}))
        parts = {"guide": made(seed=seed)}
        if isinstance(term, nn.Module):
            parts["term"] = term
        return nn.ModuleDict(parts), term

    def run(out, seed, steps=6, **options):
        both, term = model(seed)
        unlabelled = Rng(2).normal((50, D)) + 1

        def loss(model, batch, rng, rows):
            given = draw_context(unlabelled, 9, rng)
            return guide_loss(model["guide"], batch["x"], batch["y"], rng, context=given, term=term)

        training = Training(steps=6, batch_size=8, checkpoint_every=3)
        for progress in train(both, loss, Labelled(), training, out, **options):
            if progress.step == steps:
                break
        return {name: value.clone() for name, value in both.state_dict().items()}

    whole = run(tmp_path / "whole", 0)
    run(tmp_path / "parts", 0, steps=3)
    resumed = run(tmp_path / "parts", 5, resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


# Errors


def loss_with(**options):
    return lambda: guide_loss(made(), states(), labels(), Rng(0), **options)


class Odd:
    weight, needs_context = 1.0, True

    def __call__(self, guide, labelled, context):
        return torch.zeros(())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (loss_with(term=DeepCoral()), "DeepCoral needs a context"),
        (
            loss_with(term=Odd(), cond={"a": torch.ones(B)}, context=context()),
            r"conditions \['a'\] are of the labelled states or of the context alone",
        ),
        (
            loss_with(term=Odd(), cond={"a": 1}, context=Context(states(), Rng(0), {"a": 2})),
            "'a' is not the same",
        ),
        (
            loss_with(term=Odd(), context=Context(torch.zeros(4, 7), Rng(0))),
            r"\(12, 3\) and a context of shape \(4, 7\)",
        ),
        (lambda: term_of("context", sigma=1.0, tau=9e-4), "tau / sigma = 0.0009 is below 0.001"),
        (lambda: term_of("context", tau=0.0), "tau > 0"),
        (lambda: term_of("context", variance=-1.0), "variance > 0"),
        (lambda: draw_context(torch.zeros(0, 2), 3, Rng(0)), "needs states and a number to draw"),
        (lambda: draw_context(torch.zeros(4, 2), 0, Rng(0)), "got 4, 0"),
        (lambda: ParameterPrior(0.0, 3), "a prior needs variance > 0"),
        (lambda: term_of("context")(None, None, None), "needs a context"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as said:
        make()
    assert "\n" not in str(said.value)


def test_a_diverged_network_is_said_to_have_diverged():
    guide, term = made(), term_of("context")
    given = shown(guide)
    term.random.output.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="features are not finite"):
        term(guide, given, given)


def test_a_ratio_of_1e_3_is_allowed_and_constant_covariances_do_not_know_the_time():
    term = term_of("context", sigma=1.0, tau=1e-3, schedule=constant_covariance)
    kernel = term.kernel(made(), shown(made()))
    torch.testing.assert_close(kernel.tau, torch.full((M,), 1e-3, dtype=F64))
