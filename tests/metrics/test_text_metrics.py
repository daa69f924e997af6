"""The judge of n-grams by hand and on chains whose entropy is known; words and variety by hand."""

import math

import pytest
import torch

from noiseloom.metrics import NGramModel, distinct_ngrams, judged_bits, word_validity
from noiseloom.metrics.ngrams import ngram_codes
from noiseloom.rng import Rng

CHAIN = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.25, 0.25]], dtype=torch.float64)


def stationary(chain):
    return torch.linalg.matrix_power(chain, 200)[0]


def entropy_rate(chain):
    return float(-(stationary(chain)[:, None] * chain * chain.log2()).sum())


def draw(chain, rows, length, rng):
    """Rows of a stationary chain."""
    u = rng.uniform((rows, length), torch.float64)
    x = torch.empty(rows, length, dtype=torch.int64)
    x[:, 0] = torch.searchsorted(stationary(chain).cumsum(0), u[:, 0].contiguous())
    for t in range(1, length):
        x[:, t] = (u[:, t, None] > chain.cumsum(1)[x[:, t - 1]]).sum(1)
    return x.clamp(max=len(chain) - 1)


def as_tokens(text, letters=" abcdefghijklmnopqrstuvwxyz"):
    return torch.tensor([letters.index(c) for c in text])


def test_is_what_hands_compute():
    """Of 0 1 0 0 with K = 3: c = 3, 1, 0 of 4 and T = 2, so 11/18, 5/18, 2/18 without context.

    After 0 came 1 and 0, c = T = 2: (1 + 2 x 11/18) / 4 = 10/18, (1 + 2 x 5/18) / 4 = 7/18, 1/18;
    after 1 came 0, c = T = 1: (1 + 11/18) / 2 = 29/36, 5/36, 2/36; after 2 nothing, so no context.
    """
    model = NGramModel.fit(torch.tensor([[0, 1, 0, 0]]), 3, order=2)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    p = model.log2_probability(pairs).exp2()
    expected = {
        0: [10 / 18, 7 / 18, 1 / 18],
        1: [29 / 36, 5 / 36, 2 / 36],
        2: [11 / 18, 5 / 18, 2 / 18],
    }
    torch.testing.assert_close(p[:, 1].reshape(3, 3), torch.tensor([*expected.values()]).double())
    torch.testing.assert_close(p[:3, 0].double(), torch.tensor([11 / 18] * 3).double())
    bits, _ = judged_bits(model, torch.tensor([[0, 1, 0]]))
    assert bits == pytest.approx(-math.log2(11 / 18 * 7 / 18 * 29 / 36) / 3)


def test_contexts_do_not_reach_over_the_ends_of_rows():
    # 1 0 is within no row: after 1 nothing was seen, as after 2.
    model = NGramModel.fit(torch.tensor([[0, 1], [0, 1]]), 3, order=2)
    p = model.log2_probability(torch.tensor([[1, 0], [2, 0]])).exp2()
    assert p[0, 1] == p[1, 1] == p[0, 1]
    assert p[0, 1] == pytest.approx((2 + 2 / 3) / 6)


@pytest.mark.parametrize(("classes", "order"), [(2, 1), (3, 4), (5, 3), (40, 3)])
def test_probabilities_sum_to_one_after_every_context(classes, order):
    seen = Rng(0).integers(classes, (7, 11)) % max(classes - 1, 2)  # a class that was never seen
    model = NGramModel.fit(seen, classes, order)
    for start in (seen[:, : order - 1], Rng(1).integers(classes, (9, order - 1))):
        each = torch.arange(classes).repeat(len(start))[:, None]
        rows = torch.cat([start.repeat_interleave(classes, 0), each], 1)
        total = model.log2_probability(rows)[:, -1].exp2().reshape(-1, classes).sum(1)
        torch.testing.assert_close(total, torch.ones(len(start), dtype=torch.float64))


def test_counting_by_tables_and_by_sorting_agree():
    rows = Rng(0).integers(6, (30, 40))
    model = NGramModel.fit(rows, 6, 3)
    # Of 40 classes there can be more 3-grams than places, so that they are sorted.
    other = NGramModel.fit(rows, 40, 3)
    for a, b in zip(model.counts, other.counts, strict=True):
        assert a.seen.tolist() == b.seen.tolist()
        assert a.followed.tolist() == b.followed.tolist()
        assert a.types.tolist() == b.types.tolist()
    few, many = model.log2_probability(rows[:2]), model.log2_probability(rows)
    assert torch.equal(few, many[:2])


def test_bits_come_down_to_the_entropy_rate_of_a_chain():
    """Exactly, by the chain's own expectation: sum pi(a) P(a, b) -log2 p(b | a) >= h, always.

    In excess are K (K - 1) free numbers, each 1 / (2 n ln 2) bits from n tokens, on average.
    """
    h = entropy_rate(CHAIN)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    law = (stationary(CHAIN)[:, None] * CHAIN).flatten()
    excess = []
    for count in (1, 10, 100, 1_000):
        found = []
        for seed in range(8):
            model = NGramModel.fit(draw(CHAIN, count, 101, Rng(seed)), 3, order=2)
            found.append(float((law * -model.log2_probability(pairs)[:, 1]).sum()) - h)
        assert min(found) > 0
        excess.append(sum(found) / len(found))
    assert excess == sorted(excess, reverse=True)
    assert excess[-1] == pytest.approx(6 / (2 * 100_000 * math.log(2)), rel=1)


def test_rows_of_a_chain_are_judged_within_the_error():
    # The first token of a row has no context: it costs the entropy of the stationary law.
    model = NGramModel.fit(draw(CHAIN, 1_000, 100, Rng(0)), 3, order=3)
    pi = stationary(CHAIN)
    expected = (float(-(pi * pi.log2()).sum()) + 19 * entropy_rate(CHAIN)) / 20
    found = [judged_bits(model, draw(CHAIN, 300, 20, Rng(i))) for i in range(1, 41)]
    bits, errors = torch.tensor(found, dtype=torch.float64).T
    assert bits.mean() - expected == pytest.approx(0, abs=4 * float(bits.std()) / 40**0.5 + 5e-4)
    assert 0.7 < errors.mean() / bits.std() < 1.4


def test_a_judge_of_samples_finds_what_they_lack():
    train, held_out = (draw(CHAIN, 200, 50, Rng(i)) for i in (0, 1))
    repeated = train[:1].expand(200, 50)  # one row again and again: likely, and of no use
    real = judged_bits(train, held_out, classes=3, order=4)
    assert judged_bits(train, repeated, classes=3, order=4)[0] < real[0] + 0.1
    assert judged_bits(repeated, held_out, classes=3, order=4)[0] > real[0] + 0.5


def test_distinct_ngrams_by_hand():
    rows = torch.tensor([[0, 1, 0, 1], [0, 1, 2, 2]])
    assert distinct_ngrams(rows, 1, 3) == 3 / 8
    assert distinct_ngrams(rows, 2, 3) == 4 / 6  # 01 10 01 | 01 12 22
    assert distinct_ngrams(rows, 2, 3, count=3) == 2 / 3
    assert distinct_ngrams(rows, 4, 3) == 1


def test_distinct_ngrams_of_a_uniform_law():
    """Of m draws of V equal values V (1 - (1 - 1 / V)^m) differ on average."""
    V, m = 500, 700
    found = torch.tensor([distinct_ngrams(Rng(i).integers(V, (m, 1)), 1, V) for i in range(60)])
    expected = V * (1 - (1 - 1 / V) ** m) / m
    assert abs(found.mean() - expected) < 4 * found.std() / 60**0.5


def test_words_that_a_window_cut_are_left_out():
    train = as_tokens("the cat sat on the mat")
    rows = torch.stack([as_tokens("xx cat sit sat on"), as_tokens(" cat  zat  the xx")])
    # Whole words: cat sit sat; cat zat the. In a whole text "the" and "mat" are at the edges.
    share, error = word_validity(rows, train, [0])
    assert share == pytest.approx(4 / 6)
    assert error == 0  # two of three in both
    share, _ = word_validity(as_tokens(" mat cat ")[None], train, [0])
    assert share == 0.5


def test_words_may_end_at_other_classes_too_and_classes_may_be_any():
    rows = torch.tensor([[0xD800, 3, 0xDFFF, 3, 9_000, 7, 9_001, 3, 5]])
    assert word_validity(rows, torch.tensor([3, 0xDFFF, 3]), [3])[0] == 1 / 2
    assert word_validity(rows, torch.tensor([3, 0xDFFF, 7, 9_001, 3]), [7, 3])[0] == 2 / 3
    assert math.isnan(word_validity(torch.ones(2, 5).long(), rows, [3])[0])


def test_a_long_text_is_read_in_pieces(monkeypatch):
    train = Rng(0).integers(6, (2000,))
    rows = Rng(1).integers(6, (50, 30))
    whole = word_validity(rows, train, [0])
    assert 0.3 < whole[0] < 0.9
    for words in (1, 2, 7):
        monkeypatch.setitem(word_validity.__globals__, "_WORDS", words)
        assert word_validity(rows, train, [0]) == whole


def test_the_error_of_the_share_of_words_is_its_spread():
    """Words of one letter, of which one in four is unknown, of random number in a row."""

    def one(rng):
        letters = torch.where(rng.uniform((80, 30)) < 0.25, 2, 1)
        spaces = torch.zeros(80, 30).long()
        rows = torch.stack([spaces, letters], 2).reshape(80, 60)
        cut = 10 + 2 * rng.fold("length").integers(25, (80, 1))
        return word_validity(rows * (torch.arange(60) < cut), torch.tensor([0, 1, 0]), [0])

    shares, errors = torch.tensor([one(Rng(i)) for i in range(150)], dtype=torch.float64).T
    assert abs(shares.mean() - 0.75) < 4 * shares.std() / 150**0.5
    assert 0.85 < errors.mean() / shares.std() < 1.18


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (lambda: NGramModel.fit(torch.tensor([[0, 3]]), 3, 2), r"in 0 \.\. 2, got 0 to 3"),
        (lambda: NGramModel.fit(torch.tensor([0, 1]), 3, 2), r"shape \(N, T\)"),
        (lambda: NGramModel.fit(torch.tensor([[0, 1]]), 3, 0), "at least 1"),
        (lambda: ngram_codes(torch.tensor([[0, 1]]), 6, 4096), r"take n in 1 \.\. 5"),
        (lambda: judged_bits(torch.ones(2, 3), torch.ones(2, 3)), "number of classes"),
        (lambda: judged_bits(torch.ones(2, 3), torch.ones(0, 3), classes=2), "needs tokens"),
        (lambda: distinct_ngrams(torch.tensor([[0, 1]]), 2, 2, count=2), "2 of 1 stretches"),
        (lambda: word_validity(torch.tensor([[0, 1]]), torch.tensor([0]), []), "at least one"),
    ],
)
def test_refusals(do, words):
    with pytest.raises(ValueError, match=words):
        do()
