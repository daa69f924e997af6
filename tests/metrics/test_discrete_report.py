"""The table of rows of tokens: real rows score like the anchor, noise worse, copies are caught."""

import math
from itertools import pairwise

import pytest
import torch

from noiseloom.metrics import discrete_report, only
from noiseloom.rng import Rng


def text(length, rng):
    """Words of a list, in random order: 0 parts them."""
    words = ["cat", "dog", "tree", "a", "sings", "under"]
    letters = sorted(set("".join(words)))
    chosen = rng.integers(len(words), (length // 2,)).tolist()
    line = " ".join(words[i] for i in chosen)[:length]
    return torch.tensor([0 if c == " " else letters.index(c) + 1 for c in line])


K = 1 + len(set("catdogtreeasingsunder"))


@pytest.fixture(scope="module")
def books():
    return {name: text(20_000, Rng(0).fold(name)) for name in ("samples", "train", "held out")}


def report_of_text(samples, books, **options):
    rng = options.pop("rng", Rng(0))
    return discrete_report(
        "text", samples, books["train"], books["held out"], rng, sizes=(K,), breaks=[0], **options
    )


def test_text_of_the_law_scores_like_held_out_text_and_noise_worse(books):
    found = report_of_text(books["samples"].reshape(-1, 50), books)
    assert found["n"] == 400
    assert found["tokens"] == 20_000
    for key, worse in (("bits", 1), ("bits_reverse", 0.2)):
        error = math.hypot(found[f"{key}_se"], found[f"{key}_se_held_out"])
        assert found[key] == pytest.approx(found[f"{key}_held_out"], abs=4 * error)
        assert found[f"{key}_noised"] > found[f"{key}_held_out"] + worse
    assert found["words"] == found["words_held_out"] == 1
    assert found["words_noised"] < 0.6
    for k in (2, 3, 4):
        assert found[f"distinct_{k}"] == pytest.approx(found[f"distinct_{k}_held_out"], rel=0.1)
        assert found[f"distinct_{k}_noised"] > 2 * found[f"distinct_{k}_held_out"]


def test_text_that_repeats_one_line_is_likely_and_found_out(books):
    found = report_of_text(books["samples"][None, :50].expand(400, 50), books)
    assert found["bits"] < found["bits_held_out"] + 0.3
    assert found["bits_reverse"] > found["bits_reverse_held_out"] + 0.3
    assert found["distinct_4"] < 0.5 * found["distinct_4_held_out"]
    assert found["words"] == 1


def test_text_may_be_in_rows_and_is_cut_to_one_number_of_tokens(books):
    samples = books["samples"].reshape(-1, 50)
    rows = {name: book.reshape(-1, 50) for name, book in books.items()}
    assert report_of_text(samples[:30], rows)["tokens"] == 1500
    short = report_of_text(samples[:30], books, order=3, judge_tokens=500)
    assert short["bits"] > report_of_text(samples[:30], books, order=3)["bits"]
    assert short == report_of_text(samples[:30], books, order=3, judge_tokens=500)
    assert short != report_of_text(samples[:30], books, order=3, judge_tokens=500, rng=Rng(1))


SIZES = (3, 3, 4, 2)


def table(n, rng):
    """The second column follows the first, and the others are alone."""
    x = torch.stack([rng.fold("c", c).integers(size, (n,)) for c, size in enumerate(SIZES)], 1)
    return torch.cat(
        [x[:, :1], torch.where(rng.uniform((n, 1)) < 0.8, x[:, :1], x[:, 1:2]), x[:, 2:]], 1
    )


def report_of_tables(samples, **options):
    train, held_out = (table(800, Rng(0).fold(name)) for name in ("train", "held out"))
    return discrete_report("table", samples, train, held_out, Rng(0), sizes=SIZES, **options)


def test_a_table_of_the_law_scores_like_held_out_rows_and_noise_worse():
    found = report_of_tables(
        table(600, Rng(1)), rules=[only([0, 1], torch.tensor([[0, 0], [1, 1], [2, 2]]))]
    )
    assert found["n"] == 600
    for key in ("marginal", "pair", "dependence"):
        assert found[key] < 0.06
        assert found[f"{key}_worst"] < 0.12
    for key in ("classifier", "invalid", "closest", "copies"):
        error = math.hypot(found[f"{key}_se"], found[f"{key}_se_held_out"])
        assert found[key] == pytest.approx(found[f"{key}_held_out"], abs=4 * error + 1e-9)
    assert found["classifier"] == pytest.approx(0.5, abs=4 * found["classifier_se"])
    # The rule is broken by 0.2 x 2/3 of the rows.
    assert found["invalid"] == pytest.approx(0.4 / 3, abs=4 * found["invalid_se"])
    for key in ("pair", "dependence_worst", "classifier", "invalid"):
        assert found[f"{key}_noised"] > found[f"{key}_held_out"]


def test_columns_alone_are_told_by_pairs():
    x = table(600, Rng(1))
    shuffled = torch.stack([x[:, c][Rng(c).permutation(600)] for c in range(4)], 1)
    found = report_of_tables(shuffled)
    assert found["marginal"] < 0.06
    assert found["dependence_worst"] > 0.7  # V of the pair is 0.8
    # TV of the pair: 3 cells of 0.8 / 3 + 0.2 / 9 against 1/9, so that the best there is is 0.767.
    assert found["classifier"] == pytest.approx(0.5 + 0.8 / 3, abs=4 * found["classifier_se"])
    assert report_of_tables(shuffled, pairs=False)["classifier"] < 0.6


def test_copies_of_a_table_and_codes_of_no_class_are_caught():
    # Of 24 x 3 rows that there can be, training has almost all: make them rare.
    train = Rng(2).integers(30, (300, 6))
    held_out = Rng(3).integers(30, (300, 6))
    options = {"sizes": (30,), "pairs": False}
    found = discrete_report("table", train[:200], train, held_out, Rng(0), **options)
    assert found["copies"] == 1
    assert found["closest"] == 0
    assert found["copies_held_out"] == 0
    assert found["closest_held_out"] > 0.5
    samples = held_out.clone()
    samples[:100, 3] = 31
    found = discrete_report("table", samples, train, held_out, Rng(0), **options)
    assert found["invalid"] == pytest.approx(1 / 3)
    assert found["invalid_held_out"] == 0
    assert found["marginal_worst"] > 1 / 3


def rows_of_sequences(n, rng):
    """1s and 2s by turns until a 0, of 3 to 8 tokens, in one of ten."""
    ends = 3 + rng.fold("ends").integers(6, (n, 1))
    place = torch.arange(10)
    kind = 1 + (place + rng.integers(2, (n, 1))) % 2
    return torch.where(place < ends, kind, 0)


def by_turns(rows):
    """A form for what has no token twice in a row: its first token and its length."""
    found = []
    for row in rows.tolist():
        word = row[: row.index(0)] if 0 in row else row
        good = word and all(a != b for a, b in pairwise(word))
        found.append((word[0], len(word)) if good else None)
    return found


def noised_by_turns():
    """Share of sequences that keep taking turns under noise of 0.2.

    A token stays with 13/15, and is the other one or a third with 1/15 each. It equals the token
    before where one of the two stayed and the other turned, or both are the third.
    """
    law = torch.tensor([13, 1, 1], dtype=torch.float64) / 15  # stayed, turned, third
    differ = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=torch.float64)
    shares, ends = [], law
    for _ in range(8):  # of 1, 2, ..., 8 tokens
        shares.append(float(ends.sum()))
        ends = law * (differ @ ends)
    return sum(shares[2:]) / 6


def test_sequences_of_the_law_score_like_held_out_ones_and_noise_worse():
    samples, train, held_out = (rows_of_sequences(400, Rng(i)) for i in range(3))
    found = discrete_report(
        "sequences", samples, train, held_out, Rng(0), sizes=(4,), pad=0, forms=by_turns
    )
    for anchor in ("", "_held_out"):
        assert found[f"valid{anchor}"] == 1
        assert found[f"unique{anchor}"] == 12 / 400
        assert found[f"novel{anchor}"] == 0
        assert found[f"length{anchor}"] < 0.4
        assert found[f"kmer_2{anchor}"] < 0.06
    assert found["valid_noised"] == pytest.approx(noised_by_turns(), abs=4 * 0.5 / 400**0.5)
    assert found["kmer_2_noised"] > 0.2
    again = discrete_report(
        "sequences",
        samples,
        train,
        held_out,
        Rng(0),
        sizes=(4,),
        pad=0,
        forms=by_turns,
        known=by_turns(train),
    )
    assert again == found


def test_sequences_without_forms_are_their_own_and_empty_ones_have_no_pieces():
    samples, train, held_out = (rows_of_sequences(50, Rng(i)) for i in range(3))
    options = {"sizes": (3,), "pad": 0}
    found = discrete_report("sequences", 0 * samples, train, held_out, Rng(0), **options)
    assert "valid" not in found
    assert found["unique"] == 1 / 50
    assert found["novel"] == 1
    assert "novel_se" not in found  # of one
    assert found["kmer_1"] == found["kmer_4"] == 1
    assert found["length"] > 5


@pytest.mark.parametrize("kind", ["text", "table", "sequences"])
def test_one_row_of_one_column_has_what_can_be_said_of_it(kind):
    row = torch.zeros(1, 1, dtype=torch.int64)
    found = discrete_report(kind, row, row, row, Rng(0), sizes=(2,))
    assert found["n"] == 1
    assert not any(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    ("kind", "samples", "train", "words"),
    [
        ("texts", torch.zeros(2, 3), torch.zeros(9), "got 'texts'"),
        ("text", torch.zeros(2, 3), torch.zeros(9, 4), r"3 tokens .* train rows of shape \(9, 4\)"),
        ("text", torch.zeros(2, 3), torch.zeros(2), "0 training"),
        ("text", torch.full((2, 3), 7), torch.zeros(9), r"in 0 \.\. 1, got 7 to 7"),
        ("table", torch.zeros(2), torch.zeros(9, 3), r"shape \(N, 1\), got \(2,\)"),
        ("table", torch.zeros(0, 3), torch.zeros(9, 3), "got 0 samples"),
    ],
)
def test_refusals(kind, samples, train, words):
    with pytest.raises(ValueError, match=words):
        discrete_report(kind, samples, train, torch.zeros(9, 3), Rng(0), sizes=(2,))
