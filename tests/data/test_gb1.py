"""FLIP's files of GB1, as they are: parts, and what is known of which variant."""

import os
from pathlib import Path

import gb1_cases as cases
import pytest
import torch

from noiseloom import Rng
from noiseloom.data import GB1Split, Variants, read_gb1

SHARED = Path(os.environ.get("NOISELOOM_DATA", "/nowhere")) / "proteins"
KNOWN = cases.measured()


def fours(part):
    """The four residues of rows."""
    found = Variants.words.decode(part.values)
    assert all(len(text) == 56 for text in found)
    return ["".join(text[i] for i in (38, 39, 40, 53)) for text in found]


def files(folder):
    kept = dict(list(KNOWN.items())[:40])
    (folder / "low_vs_high.csv").write_text(cases.split_text(kept))
    (folder / "four_mutations_full_data.csv").write_text(cases.table_text(KNOWN, kept))
    cases.splits_zip(folder / "splits.zip", kept)
    cases.write_zip(
        folder / "table.zip", {"four_mutations_full_data.csv": cases.table_text(KNOWN, kept)}
    )
    short = cases.split_text(kept).replace(cases.REST, "")
    (folder / "short.csv").write_text(short)
    return kept


@pytest.mark.parametrize(
    ("name", "all_known"),
    [
        ("low_vs_high.csv", False),
        ("short.csv", False),
        ("splits.zip", False),
        ("four_mutations_full_data.csv", True),
        ("table.zip", True),
    ],
)
def test_every_kind_of_file_gives_the_parts_and_what_was_measured(tmp_path, name, all_known):
    kept = files(tmp_path)
    found = read_gb1(tmp_path / name)
    for part in ("train", "validation", "test"):
        expected = [four for four, f in kept.items() if cases.part_of(four, f) == part]
        assert fours(getattr(found, part)) == expected
        values = found.measured.value(getattr(found, part).values)
        assert values.tolist() == [kept[four] for four in expected]
    assert len(found.measured) == (60 if all_known else 40)


def test_another_file_says_what_is_known_of_others(tmp_path):
    kept = files(tmp_path)
    found = read_gb1(tmp_path / "splits.zip", table=tmp_path / "table.zip")
    assert len(found.measured) == 60
    assert sum(len(p) for p in (found.train, found.validation, found.test)) == len(kept)
    other = {**KNOWN, "VDGV": 1.5}
    (tmp_path / "four_mutations_full_data.csv").write_text(cases.table_text(other, kept))
    with pytest.raises(ValueError, match=r"fitness of VDGV is 1 in .* and 1.5 in"):
        read_gb1(tmp_path / "splits.zip", table=tmp_path / "four_mutations_full_data.csv")


def test_of_every_variant_is_known_what_was_measured_and_nothing_else():
    known = {"VDGV": 1.0, "AAAA": 0.0, "YYYY": 0.5, "WWLA": 8.76, "AYCD": -0.1}
    landscape = Variants(known)
    every = torch.cartesian_prod(*[torch.arange(20)] * 4)
    rows = landscape.words.encode([cases.DOMAIN]).expand(len(every), -1).clone()
    rows[:, [38, 39, 40, 53]] = every
    values = landscape.value(rows)
    assert landscape.valid(rows).all()
    assert landscape.total == len(rows) == 160_000
    names = ["".join(cases.LETTERS[k] for k in row) for row in every.tolist()]
    there = {names[i]: values[i].item() for i in values.isfinite().nonzero()[:, 0].tolist()}
    assert there == known
    assert len(landscape) == 5


def test_what_is_no_variant_is_not_valid_and_worth_nothing_known():
    landscape = Variants(cases.measured())
    own = landscape.words.encode([cases.DOMAIN])
    rows = own.expand(57, -1).clone()
    rows[torch.arange(56), torch.arange(56)] = (own[0] + 1) % 20  # one residue each, but the last
    sites = {38, 39, 40, 53}
    assert landscape.valid(rows).tolist() == [i in sites or i == 56 for i in range(57)]
    others = torch.tensor([i for i in range(56) if i not in sites])
    assert landscape.value(rows[others]).isnan().all()
    assert landscape.value(rows[-1:]).item() == 1
    rows[0] = own
    rows[0, 38] = landscape.words.end  # it would have ended there
    assert not landscape.valid(rows[:1]).any()
    assert landscape.value(rows[:1]).isnan().all()
    with pytest.raises(ValueError, match=r"shape \(N, 56\)"):
        landscape.value(rows[:, :4])


def test_draws_are_variants_of_all_kinds():
    landscape = Variants({"VDGV": 1.0})
    rows = landscape.draw(8000, Rng(0))
    assert landscape.valid(rows).all()
    assert torch.equal(landscape.draw(5, Rng(0)), rows[:5])
    for site in (38, 39, 40, 53):
        share = torch.bincount(rows[:, site], minlength=20).double() / 8000
        assert ((share - 0.05).abs() < 5 * (0.05 * 0.95 / 8000) ** 0.5).all()


def edited(old, new):
    return lambda text: text.replace(old, new, 1)


DAMAGED = {
    "a residue elsewhere": (edited("NGKTLKG", "NGKTLKA"), "line 2: no variant of GB1, which"),
    "a short sequence": (edited(cases.REST, "LEVL"), "line 2: no variant of GB1"),
    "a letter": (edited("NGVDGEW", "NGXDGEW"), "line 2: no variant of GB1"),
    "no number": (edited(",1.0,", ",one,"), "line 2: the fitness 'one' is no number"),
    "nan": (edited(",1.0,", ",nan,"), "line 2: the fitness 'nan' is no number"),
    "a part": (edited(",test,", ",dev,"), "line 2: a variant is of train or test, not of 'dev'"),
    "a column": (edited("target", "y"), "no column 'target': this is no file of FLIP's"),
    "twice": (lambda text: text + text.splitlines()[1] + "\n", "the variant VDGV is there twice"),
    "one part": (lambda text: text.replace("test", "train"), "no variant for test in the split"),
    "nothing": (lambda text: "", "no column 'sequence'"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_one_line(tmp_path, what):
    change, message = DAMAGED[what]
    path = tmp_path / "low_vs_high.csv"
    path.write_text(change(cases.split_text(KNOWN)))
    with pytest.raises(ValueError, match=r"low_vs_high\.csv") as error:
        read_gb1(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_other_files_are_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.zip"):
        read_gb1(tmp_path / "none.zip")
    cases.splits_zip(tmp_path / "splits.zip", KNOWN)
    with pytest.raises(ValueError, match="no split 'two_vs_rest' in it: it has low_vs_high"):
        read_gb1(tmp_path / "splits.zip", "two_vs_rest")
    with pytest.raises(ValueError, match="split must be one of low_vs_high, one_vs_rest"):
        read_gb1(tmp_path / "splits.zip", "high_vs_low")
    for name, content in {"x.zip": b"no", "x.csv": b"\xff\xfe\xff", "x.fasta": b">"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"^\S+{name}: [^\n]+$"):
            read_gb1(tmp_path / name)
    with pytest.raises(ValueError, match=r"no \.zip or \.csv file"):
        read_gb1(tmp_path)
    with pytest.raises(ValueError, match="four amino acids, got 'VDG'"):
        Variants({"VDG": 1.0})
    with pytest.raises(ValueError, match="no measured variant"):
        Variants({})


COUNTS = {
    "low_vs_high": (4580, 509, 3644),
    "one_vs_rest": (25, 3, 8705),
    "two_vs_rest": (381, 43, 8309),
    "three_vs_rest": (2691, 299, 5743),
    "sampled": (6289, 699, 1745),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="NOISELOOM_DATA names no folder of data")
@pytest.mark.parametrize("split", GB1Split.__args__)
def test_the_real_files_have_the_known_counts(split):
    found = read_gb1(SHARED / "flip_gb1_splits.zip", split)
    assert tuple(len(p) for p in (found.train, found.validation, found.test)) == COUNTS[split]
    assert len(found.measured) == 8733
    assert found.measured.value(found.measured.words.encode([cases.DOMAIN])).item() == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="NOISELOOM_DATA names no folder of data")
def test_the_real_table_has_nearly_all_variants_and_the_splits_agree():
    table = SHARED / "flip_gb1_four_mutations_full_data.csv.zip"
    found = read_gb1(SHARED / "flip_gb1_splits.zip", table=table)
    assert len(found.measured) == 149_361
    train, test = (found.measured.value(p.values) for p in (found.train, found.test))
    assert train.max() < 1 <= test.min()
    assert test.max().item() == pytest.approx(8.76196565571)
