"""Codes: the relaxation's limits and law, what is dropped, and measures of use (checks 1 to 4)."""

import math

import pytest
import torch

from noiseloom.latents import (
    CollapseWarning,
    UsageBonus,
    annealed_temperature,
    code_report,
    constant_temperature,
    dead_codes,
    drop_codes,
    gumbel_softmax,
    joint_probabilities,
    modes_recovered,
    mutual_information,
    numbering_note,
    one_hot,
    perplexity,
)
from noiseloom.nets import CodeEmbedding
from noiseloom.recipes import DiscoMixture
from noiseloom.rng import Rng

LOGITS = torch.tensor([[0.0, 1.0, -1.0, 2.0], [0.5, 0.5, 0.5, -3.0]])


@pytest.mark.parametrize("temperature", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("hard", [False, True])
def test_the_largest_entry_is_distributed_as_the_softmax_at_every_temperature(temperature, hard):
    n = 20000
    codes = gumbel_softmax(LOGITS.expand(n, 2, 4), temperature, Rng(3).samples(n), hard=hard)
    found = one_hot(codes.argmax(-1), 4).mean(0)
    p = LOGITS.softmax(-1)
    assert ((found - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_latents_and_samples_are_drawn_independently():
    codes = gumbel_softmax(torch.zeros(8000, 2, 2), 0.01, Rng(0).samples(8000)).round()
    both = torch.einsum("bi,bj->ij", codes[:, 0], codes[:, 1]) / 8000
    assert (both - 0.25).abs().max() < 5 * (0.25 * 0.75 / 8000) ** 0.5


def test_a_sample_draws_the_same_alone_and_in_a_batch():
    logits = Rng(1).normal((20, 3, 5))
    batch = gumbel_softmax(logits, 0.7, Rng(2).samples(20))
    alone = gumbel_softmax(logits[17:18], 0.7, Rng(2).samples(1, 17))
    assert torch.equal(batch[17:18], alone)


def test_limits_of_the_temperature():
    logits = Rng(5).normal((400, 2, 8))
    cold, hot = (gumbel_softmax(logits, tau, Rng(6).samples(400)) for tau in (1e-4, 1e6))
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 8), rtol=0, atol=1e-4)
    assert (cold.amax(-1) > 0.999).float().mean() > 0.99
    torch.testing.assert_close(cold.sum(-1), torch.ones(400, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_extreme_logits_stay_finite_in_every_type(dtype, temperature):
    logits = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, -1e4, -1e4]]], dtype=dtype)
    logits.requires_grad_()
    codes = gumbel_softmax(logits, temperature, Rng(0).samples(2))
    assert codes.dtype == dtype
    (codes * torch.arange(3)).sum().backward()
    assert codes.isfinite().all()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(codes.float().sum(-1), torch.ones(2, 1), rtol=0, atol=1e-2)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_temperature_that_is_not_above_0_is_refused(value, kind):
    with pytest.raises(ValueError, match="a temperature must be above 0, got"):
        gumbel_softmax(LOGITS, kind(value), Rng(0))


def test_straight_through_is_one_hot_forward_and_soft_backward():
    weight = Rng(1).normal((50, 2, 6))
    found = []
    for hard in (False, True):
        logits = Rng(0).normal((50, 2, 6)).requires_grad_()
        codes = gumbel_softmax(logits, 0.8, Rng(2).samples(50), hard=hard)
        (codes * weight).sum().backward()
        found.append((codes.detach(), logits.grad))
    (soft, expected), (hard, gradient) = found
    assert torch.equal(hard, one_hot(soft.argmax(-1), 6))
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
    assert gradient.abs().max() > 0.01
    assert not codes.detach().requires_grad


def test_one_formula_for_hard_soft_and_dropped_codes():
    table = CodeEmbedding(2, 5, 7)
    torch.nn.init.normal_(table.null)
    indices = Rng(0).integers(5, (30, 2))
    hard = table({"codes": one_hot(indices, 5)}, 30)
    assert torch.equal(hard, torch.stack([table.table[i, indices[:, i]] for i in range(2)], 1))
    half = (one_hot(indices, 5) + one_hot(indices.flip(0), 5)) / 2
    torch.testing.assert_close(table({"codes": half}, 30), (hard + hard.flip(0)) / 2)
    absent = table({}, 30)
    assert torch.equal(absent, table({"codes": torch.zeros(30, 2, 5)}, 30))
    assert torch.equal(absent[4], table.null)


def test_codes_that_do_not_fit_are_refused():
    table = CodeEmbedding(2, 5, 7)
    with pytest.raises(ValueError, match=r"\(3, 2, 4\) for a network of m 2, k 5"):
        table({"codes": torch.zeros(3, 2, 4)}, 3)
    with pytest.raises(TypeError, match="one-hot rows"):
        table({"codes": torch.zeros(3, 2, dtype=torch.int64)}, 3)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=r"codes must be in 0 \.\. 4"):
            one_hot(torch.tensor([[0, wrong]]), 5)
    with pytest.raises(TypeError, match="codes must be integers, got"):
        one_hot(torch.tensor([[0.0, 1.0]]), 5)
    small = torch.tensor([[0, 4]], dtype=torch.uint8)
    assert torch.equal(one_hot(small, 5), one_hot(small.long(), 5))


def test_samples_are_dropped_whole_at_the_rate_and_without_gradient():
    n, rate = 20000, 0.1
    codes = torch.full((n, 3, 4), 0.25, requires_grad=True)
    given, kept = drop_codes(codes, rate, Rng(0).samples(n))
    given.square().sum().backward()
    dropped = float((~kept).float().mean())
    assert abs(dropped - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    assert torch.equal(given.flatten(1).any(1), kept)
    assert torch.equal(codes.grad.flatten(1).any(1), kept)
    assert torch.equal(drop_codes(codes, 0.0, Rng(0))[0], codes)
    assert not drop_codes(codes, 1.0, Rng(0))[0].any()


def test_temperatures():
    p = torch.tensor([0.0, 0.35, 0.7, 1.0])
    expected = torch.tensor([3.0, math.sqrt(3.0 * 0.3), 0.3, 0.3])
    torch.testing.assert_close(annealed_temperature(3.0, 0.3, 0.7)(p), expected)
    torch.testing.assert_close(constant_temperature(2.0)(p), torch.full((4,), 2.0))
    with pytest.raises(ValueError, match="above 0 and finite, got inf"):
        annealed_temperature(math.inf)
    with pytest.raises(ValueError, match="above 0"):
        annealed_temperature(3.0, 0.0)
    with pytest.raises(ValueError, match="share"):
        annealed_temperature(share=0.0)


def test_perplexity_dead_codes_and_information_of_known_tables():
    share = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    torch.testing.assert_close(perplexity(share), torch.tensor([4.0, 1.0, 2.0]))
    assert dead_codes(share).tolist() == [0, 3, 2]
    noisy = torch.tensor([[0.4, 0.1], [0.1, 0.4]])  # a channel that errs one time in five
    bits = 1 + 0.2 * math.log2(0.2) + 0.8 * math.log2(0.8)
    found = mutual_information(torch.stack((torch.eye(2), torch.ones(2, 2), noisy)))
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, bits]), rtol=1e-5, atol=1e-6)


def test_modes_are_recovered_by_codes_of_their_own():
    joint = torch.tensor([[10.0, 0, 0], [5, 0, 0], [0, 6, 4], [0.2, 9.8, 0], [0, 0, 0.3]])
    assert modes_recovered(joint) == 2  # the last is hardly used, the third is shared
    labels = torch.arange(8).repeat(48)
    report = code_report(one_hot(torch.stack((labels // 4, labels % 4), 1), 4), labels, 8)
    assert report["modes"] == 8
    assert report["mutual_information"] == pytest.approx(3, abs=1e-5)


def test_probabilities_of_sequences_are_products():
    q = Rng(0).normal((5, 3, 2)).softmax(-1)
    whole = joint_probabilities(q).reshape(5, 2, 2, 2)
    torch.testing.assert_close(whole, torch.einsum("bi,bj,bk->bijk", *q.unbind(1)))
    assert joint_probabilities(q[:, :0]).tolist() == [[1.0]] * 5


def test_the_bonus_has_two_terms_of_its_formula_and_their_schedules():
    q = Rng(0).normal((6, 2, 4)).softmax(-1).double()
    kept = torch.tensor([1, 1, 1, 1, 0, 0]).bool()

    def h(p):
        return -(p * p.log()).sum(-1)

    bonus = UsageBonus(0.5, 0.2, 0.8)
    for p in (0.0, 0.4, 0.9):
        found = bonus(q, kept, torch.tensor(p))
        spread = 0.5 * max(0, 1 - p / 0.8) * h(q[:4].mean(0)).sum()
        expected = spread - 0.2 * p * h(q).sum(-1) * kept * 6 / 4
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        # What is meant: the mean over the batch, of means over those that were kept.
        meant = spread - 0.2 * p * h(q[:4]).sum(-1).mean()
        torch.testing.assert_close(found.mean(), meant, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kept", [[True, False], [False, False]])
def test_dropped_samples_have_no_part_in_the_bonus(kept):
    logits = torch.tensor([[[50.0, -50.0]], [[0.0, 1.0]]], requires_grad=True)
    UsageBonus()(logits.softmax(-1), torch.tensor(kept), torch.tensor(0.5)).sum().backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()


def test_the_bonus_prefers_codes_that_tell_to_codes_that_are_shared():
    # Two pairs of modes: a code each, or each pair at random between two codes.
    own = torch.eye(4)[:, None]
    shared = torch.tensor([[0.5, 0.5, 0, 0]] * 2 + [[0, 0, 0.5, 0.5]] * 2)[:, None]
    kept, late = torch.ones(4).bool(), torch.tensor(0.6)
    marginal, both = UsageBonus(0.3, 0.0), UsageBonus(0.3, 0.3)
    torch.testing.assert_close(*(marginal(q, kept, late).mean() for q in (own, shared)))
    better, worse = (both(q, kept, late).mean() for q in (own, shared))
    assert better > worse + 0.1


LOW = {"least_informed_perplexity": 1.0, "least_information": 0.01}


def test_collapse_is_warned_of_once_when_codes_should_be_in_use_and_at_the_end():
    watch = CollapseWarning(10_000, 8)
    watch.write([{"step": 50, **LOW}, {"step": 1150}])
    with pytest.warns(UserWarning, match="codes have collapsed: at step 1200 of 10000"):
        watch.write([{"step": 1200, **LOW}, {"step": 1250, **LOW}])
    watch.write([{"step": 9999, **LOW}])
    with pytest.warns(UserWarning, match="at step 10000 of 10000"):
        watch.write([{"step": 10_000, **LOW}])
    watch.close()
    brief = CollapseWarning(300, 8)
    brief.write([{"step": 299, **LOW}])
    with pytest.warns(UserWarning, match="at step 300 of 300"):
        brief.write([{"step": 300, **LOW}])
    CollapseWarning(100, 8).write([{"step": 100, **LOW}])  # the means have not settled
    used = CollapseWarning(300, 8)
    used.write([{"step": 300, "least_informed_perplexity": 8.0, "least_information": 0.06}])


@pytest.mark.parametrize(
    ("perplexity", "advice", "not_advised"),
    [(1.3, "bonus .*restart", "penal"), (8.0, "at random: penal.* straight-through", "bonus")],
)
def test_advice_against_collapse_fits_the_case(perplexity, advice, not_advised):
    watch = CollapseWarning(300, 8)
    with pytest.warns(UserWarning, match=advice) as said:
        watch.write([{"step": 300, **LOW, "least_informed_perplexity": perplexity}])
    assert not_advised not in str(said[0].message)


@pytest.mark.parametrize(
    ("perplexity", "tried", "advice", "not_advised"),
    [
        (8.0, {"hard"}, "at random: penalise that", "hard"),
        (8.0, {"penalty", "bonus"}, "at random: train by straight-through", "penal"),
        (8.0, {"hard", "penalty"}, "on already: raise --penalty", "hard"),
        (1.3, {"bonus", "hard"}, "few are used: restart dead codes .*, or anneal", "bonus"),
        (1.3, {"bonus", "restart"}, "few are used: anneal the temperature", "restart"),
        (1.3, {"bonus", "restart", "temperature"}, "on already: raise --bonus", "anneal"),
    ],
)
def test_what_is_on_already_is_not_advised(perplexity, tried, advice, not_advised):
    watch = CollapseWarning(300, 8, tried=tried)
    with pytest.warns(UserWarning, match=advice) as said:
        watch.write([{"step": 300, **LOW, "least_informed_perplexity": perplexity}])
    assert not_advised not in str(said[0].message)


@pytest.mark.parametrize("perplexity", [1.3, 8.0])
def test_codes_that_are_always_dropped_need_to_be_dropped_less(perplexity):
    watch = CollapseWarning(300, 8, tried={"penalty"}, dropped=True)
    with pytest.warns(UserWarning, match=r"all samples are dropped: lower --code-drop$"):
        watch.write([{"step": 300, **LOW, "least_informed_perplexity": perplexity}])
    assert DiscoMixture(code_drop=1.0).trackers()[0].dropped
    assert not DiscoMixture(code_drop=0.9).trackers()[0].dropped


def test_a_code_report_tells_latents_apart():
    # Latent 0 is the class, latent 1 a coin.
    labels = torch.arange(60) % 3
    q = torch.stack((one_hot(labels, 3), one_hot(torch.arange(60) // 3 % 2, 3)), 1)
    found = code_report(q, labels, 3)
    assert found["latent_information_0"] == pytest.approx(math.log2(3), abs=1e-4)
    assert found["latent_information_1"] == pytest.approx(0, abs=1e-4)
    assert found["latent_perplexity_1"] == pytest.approx(2, abs=1e-4)
    assert found["dead_codes"] == 1
    assert found["information"] == pytest.approx(math.log2(3) + 1, abs=1e-4)
    # Codes at random have the same perplexity, and tell nothing; for half of the samples, half.
    usage = q.mean(0).expand_as(q)
    for share, known in ((0.0, q), (1.0, usage), (0.5, torch.cat((q[:30], usage[30:])))):
        told = code_report(known, labels, 3)
        assert told["latent_perplexity_0"] == pytest.approx(3, abs=1e-4)
        assert told["information"] == pytest.approx((1 - share) * (math.log2(3) + 1), abs=1e-4)
    assert "mutual_information" not in found  # 60 samples for 27 cells
    more = code_report(q.repeat(2, 1, 1), labels.repeat(2), 3)
    assert more["mutual_information"] == pytest.approx(math.log2(3), abs=1e-4)
    assert more["modes"] == 3


def test_information_stands_beside_what_chance_makes():
    """2 n ln 2 I of independent codes and classes is chi-squared with (k - 1) (c - 1) degrees."""
    n, labels = 4000, torch.arange(4000) % 10
    coins = one_hot(Rng(0).integers(8, (n, 2)), 8)
    found = code_report(coins, labels, 10)
    for name, rows in (("latent_information_0", 8), ("mutual_information", 64)):
        unit, free = 2 * n * math.log(2), (rows - 1) * 9
        off = 5 * math.sqrt(2 * free) / unit
        assert found[name] == pytest.approx(free / unit, abs=off)
        assert found[f"{name}_chance"] == pytest.approx(free / unit, abs=off / 2)
    told = code_report(one_hot(labels[:, None].repeat(1, 2), 10), labels, 10)
    assert told["latent_information_1"] == pytest.approx(math.log2(10), abs=1e-4)
    assert told["latent_information_1_chance"] == pytest.approx(81 / unit, abs=81 / unit)
    # As soft as can be, there is nothing for chance to make; many codes of many classes have more.
    soft = code_report(torch.full((n, 2, 8), 1 / 8), labels, 10)
    assert soft["latent_information_0_chance"] == pytest.approx(0, abs=1e-5)
    many = code_report(one_hot(Rng(1).integers(100, (n, 2)), 100), torch.arange(n) % 60, 60)
    assert many["latent_information_1"] > 1
    off = 5 * math.sqrt(2 * 99 * 59) / unit
    assert many["latent_information_1"] == pytest.approx(
        many["latent_information_1_chance"], abs=off
    )


def test_codes_that_could_number_the_samples_are_noted():
    assert numbering_note(2, 16, 8820) is None  # 8 bits, and log2 N - 5 is 8.1
    assert numbering_note(0, 16, 10) is None
    told = numbering_note(10, 100, 8820)
    assert told is not None
    assert told.startswith("codes of m log2 k = 66.4 bits could number the 8,820 samples")
    assert "= 8.1)" in told
