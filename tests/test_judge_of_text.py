"""The judge of text counts each stretch of the training text once, whatever the length of rows."""

from itertools import pairwise

import pytest
import torch

from noiseloom.data import Characters, TokenWindows
from noiseloom.metrics import NGramModel, distinct_ngrams, judged_bits
from noiseloom.recipes import Text
from noiseloom.recipes.classes import TokenSplit
from noiseloom.rng import Rng

K, TRAIN, HELD = 8, 60_000, 12_000
LENGTHS = (24, 64, 128)


@pytest.fixture(scope="module")
def chain():
    """A Markov chain of order 2 whose next token is one of three, and its 72,000 first tokens."""
    likely = Rng(0).fold("likely").integers(K, (K, K, 3)).tolist()
    which = Rng(0).fold("which").integers(3, (TRAIN + HELD,)).tolist()
    tokens = [0, 1]
    for draw in which:
        tokens.append(likely[tokens[-2]][tokens[-1]][draw])
    return torch.tensor(tokens[2:], dtype=torch.uint8)


def split(text, length, parts=((0, TRAIN),)):
    """As `read_text` makes it: windows to train on overlap, those held out do not."""
    return TokenSplit(
        TokenWindows(text, length, K, 1, parts),
        TokenWindows(text, length, K, length, [(TRAIN, TRAIN + HELD)]),
        (),
        Characters("abcdefg "),
    )


def found(data, length):
    recipe = Text(length=length, samples=200)
    return recipe.evaluate(lambda _: data.train[torch.arange(200) * length]["tokens"], data, Rng(0))


def test_anchors_are_those_of_a_direct_count_at_every_length(chain):
    judge = NGramModel.fit(chain[None, :TRAIN], K, 5)
    bits = []
    for length in LENGTHS:
        data = split(chain, length)
        values = found(data, length)
        n = min(200, HELD // length)
        assert values["n"] == n
        held = data.held_out[torch.arange(len(data.held_out))]["tokens"]
        keys = Rng(0).fold("report").fold("held out").permutation(len(held))[:n]
        assert values["bits_held_out"] == pytest.approx(judged_bits(judge, held[keys])[0])
        bits.append(values["bits_held_out"])
    # The first four tokens of a row have less of a context: log2 K bits at most, of each.
    for (a, short), (b, long) in pairwise(zip(LENGTHS, bits, strict=True)):
        assert abs(short - long) < 4 * 3 * (1 / a - 1 / b) + 0.05
    assert max(bits) - min(bits) < 0.3


def test_the_other_anchors_are_of_rows_that_do_not_overlap(chain):
    length = 64
    data = split(chain[: TRAIN + HELD], length)
    values, n = found(data, length), HELD // length
    rows = chain[: TRAIN // length * length].reshape(-1, length).long()
    held = chain[TRAIN : TRAIN + n * length].reshape(n, length).long()
    key = Rng(0).fold("report")
    seen = rows[key.fold("train").permutation(len(rows))[:n]]
    direct = judged_bits(seen, held, classes=K)[0]
    assert values["bits_reverse_held_out"] == pytest.approx(direct)
    assert values["distinct_3_held_out"] == pytest.approx(distinct_ngrams(held, 3, K))


def test_every_part_of_the_text_is_counted(chain):
    parts = [(0, 20_000), (30_000, 30_010), (40_000, TRAIN)]  # one shorter than a window
    data = split(chain, 64, parts)
    text = torch.cat([chain[begin:end] for begin, end in parts])
    assert torch.equal(data.train.running(10**6), text)
    judge = NGramModel.fit(text[None], K, 5)
    held = data.held_out[torch.arange(len(data.held_out))]["tokens"]
    assert found(data, 64)["bits_held_out"] == pytest.approx(judged_bits(judge, held)[0])


def test_of_a_text_that_is_too_long_windows_lie_evenly_and_apart():
    text = torch.arange(1000)
    rows = TokenWindows(text, 10, 1000, 1, [(100, 900)]).running(200)
    assert rows.shape == (20, 10)
    assert len(rows.unique()) == 200  # no token twice
    assert rows[:, 0].diff().unique().tolist() == [40]
    assert rows[0, 0] == 100
