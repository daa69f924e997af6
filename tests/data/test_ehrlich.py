"""Ehrlich functions against their definition, written out, over every sequence of small sizes."""

import itertools
import math

import pytest
import torch

from noiseloom import Rng
from noiseloom.data import Ehrlich, ehrlich

SMALL = [
    {"classes": 3, "length": 6, "motifs": 2, "motif_length": 2},
    {"classes": 4, "length": 5, "motifs": 1, "motif_length": 3, "quantisation": 2},
    {"classes": 2, "length": 9, "motifs": 3, "motif_length": 2, "banned": 0.0},
    {"classes": 5, "length": 5, "motifs": 1, "motif_length": 4, "quantisation": 1, "banned": 0.2},
]


def by_definition(f, x):
    """The value of one sequence, and whether it is feasible."""
    feasible = all(f.transitions[a, b] > 0 for a, b in itertools.pairwise(x))
    value, (_, k) = 1.0, f.motifs.shape
    for motif, offsets in zip(f.motifs.tolist(), f.offsets.tolist(), strict=True):
        best = 0
        for place in range(f.length):
            if place + offsets[-1] < f.length:
                there = sum(x[place + s] == a for a, s in zip(motif, offsets, strict=True))
                best = max(best, there)
        value *= math.floor(f.quantisation * best / k) / f.quantisation
    return value if feasible else 0.0, feasible


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", SMALL)
def test_every_sequence_has_the_value_of_the_definition_and_the_best_is_one(options, seed):
    f = ehrlich(Rng(seed), **options)
    rows = list(itertools.product(range(f.classes), repeat=f.length))
    expected = [by_definition(f, x) for x in rows]
    tokens = torch.tensor(rows)
    torch.testing.assert_close(
        f.value(tokens), torch.tensor([v for v, _ in expected], dtype=torch.float64)
    )
    assert f.valid(tokens).tolist() == [feasible for _, feasible in expected]
    assert f.value(tokens).max() == 1
    assert bool((~f.valid(tokens)).any()) is (int(f.transitions.eq(0).sum()) > 0)
    assert (f.value(tokens)[~f.valid(tokens)] == 0).all()
    assert f.value(f.optimum()[None]).item() == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "sizes", [(20, 32, 2, 4), (32, 32, 4, 4), (20, 32, 8, 4), (6, 12, 4, 3), (2, 4, 2, 2)]
)
def test_the_optimum_is_feasible_and_worth_one_however_it_is_drawn(sizes, seed):
    v, length, motifs, k = sizes
    f = ehrlich(Rng(seed), classes=v, length=length, motifs=motifs, motif_length=k)
    assert f.optimum().shape == (length,)
    assert f.valid(f.optimum()[None]).all()
    assert f.value(f.optimum()[None]).item() == 1
    assert all(len(set(motif)) == k for motif in f.motifs.tolist())
    assert int(f.offsets[:, -1].max()) < length // motifs


@pytest.mark.parametrize("q", [1, 2, 3, 4, 5])
def test_a_motif_counts_in_steps(q):
    # One motif of five elements, which nothing bans: x has the first n of them.
    law = torch.full((6, 6), 1 / 6, dtype=torch.float64)
    f = Ehrlich(5, law, torch.tensor([[0, 1, 2, 3, 4]]), torch.arange(5)[None], q)
    rows = torch.tensor([[i if i < n else 5 for i in range(5)] for n in range(6)])
    assert f.present(rows)[:, 0].tolist() == list(range(6))
    assert f.value(rows).tolist() == [(n * q // 5) / q for n in range(6)]
    two = Ehrlich(10, law, f.motifs.repeat(2, 1), f.offsets.repeat(2, 1), q)
    # Both are best at the same place: what is there once counts for both.
    both = torch.cat((rows, torch.full_like(rows, 5)), 1)
    assert two.value(both).tolist() == [(n * q // 5) ** 2 / q**2 for n in range(6)]


def test_transitions_are_laws_that_ban_what_they_should_and_reach_everything():
    f = ehrlich(Rng(3), classes=11, length=8, motifs=1, motif_length=3, banned=0.5)
    allowed = f.transitions > 0
    assert ((~allowed).sum(1) == 5).all()
    assert allowed.diagonal().all()
    reached = torch.linalg.matrix_power(allowed.double(), 11)
    assert (reached > 0).all()


def test_draws_are_runs_of_the_chain_whatever_their_number():
    f = ehrlich(Rng(1), classes=5, length=12, motifs=2, motif_length=3)
    rows = f.draw(20_000, Rng(2))
    assert f.valid(rows).all()
    assert torch.equal(f.draw(7, Rng(2)), rows[:7])
    # Independent of each other: the first token of a row, and the second given the first.
    first = torch.bincount(rows[:, 0], minlength=5) / len(rows)
    assert ((first - 0.2).abs() < 5 * math.sqrt(0.2 * 0.8 / len(rows))).all()
    for a in range(5):
        after = rows[rows[:, 0] == a, 1]
        share = torch.bincount(after, minlength=5).double() / len(after)
        p = f.transitions[a]
        assert ((share - p).abs() <= 5 * (p * (1 - p) / len(after)).sqrt()).all()


def test_what_is_no_class_is_infeasible():
    f = ehrlich(Rng(0), classes=4, length=6, motifs=1, motif_length=2)
    rows = f.optimum().repeat(3, 1)
    rows[1, 5], rows[2, 0] = 4, -1
    assert f.valid(rows).tolist() == [True, False, False]
    assert f.value(rows).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"shape \(N, 6\), got \(3, 5\)"):
        f.value(rows[:, :5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 7}, "length >= motifs \\* motif_length"),
        ({"classes": 1}, "classes >= 2"),
        ({"banned": 1.0}, r"share in \[0, 1\)"),
        ({"banned": 0.9}, "ban fewer"),
        ({"quantisation": 5}, "quantisation must be 1 .. 4"),
        ({"quantisation": 0}, "quantisation must be 1 .. 4"),
    ],
)
def test_functions_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ehrlich(Rng(0), **{"classes": 8, "motifs": 2, "motif_length": 4, **options})


def test_parts_that_do_not_fit_together_are_refused():
    f = ehrlich(Rng(0), classes=4, length=6, motifs=2, motif_length=2)
    law, a, s = f.transitions, f.motifs, f.offsets
    banned = law.clone()
    banned[a[0, 0]] = torch.nn.functional.one_hot(a[0, 0], 4)  # nothing but itself follows
    for parts, message in [
        ((6, law[:3], a, s, 1), r"must have shape \(v, v\)"),
        ((6, law, a, s[:1], 1), "offsets of shape"),
        ((6, law, a + 9, s, 1), "classes 0 .. 3"),
        ((6, law, a, s + 1, 1), "begin at 0"),
        ((6, 2 * law, a, s, 1), "laws"),
        ((2, law, a, s, 1), "do not fit into 2"),
        ((6, banned, a, s, 1), "the chain bans the motifs"),
    ]:
        with pytest.raises(ValueError, match=message):
            Ehrlich(*parts)
