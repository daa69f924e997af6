"""GB1: what four sites of a protein's domain do to its binding, measured for nearly all variants.

The B1 domain of protein G has 56 residues; of the 20^4 = 160,000 ways to choose those at sites 39,
40, 41 and 54, 149,361 were measured. Fitness is the enrichment by binding to an antibody, 1 for the
protein as it is. FLIP cuts the variants into splits that ask what a model makes of others than it
learnt from: few mutations and many, low fitness and high. Its files are read as they are.

References:
    N. C. Wu, L. Dai, C. A. Olson, J. O. Lloyd-Smith, R. Sun, 2016, Adaptation in protein fitness
    landscapes is facilitated by indirect paths, eLife 5, e16965 (the measurements); C. Dallago et
    al., 2021, FLIP: Benchmark tasks in fitness landscape inference for proteins, NeurIPS Datasets
    and Benchmarks (the splits).
"""

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO, TypeAlias, get_args

import torch
from torch import Tensor

from noiseloom.data.symbols import Symbols
from noiseloom.data.tokens import Tokens
from noiseloom.rng import Rng

__all__ = ["AMINO_ACIDS", "GB1", "GB1Split", "Variants", "domain_of", "read_gb1"]

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
_DOMAIN = "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"
_SITES = (38, 39, 40, 53)  # from 0
_ALONE = "39, 40, 41 and 54 alone"
_BEFORE, _BETWEEN, _AFTER = _DOMAIN[:38], _DOMAIN[41:53], _DOMAIN[54:]
_LENGTHS = (56, 265)  # of the domain, and of FLIP's construct, which goes on behind it

GB1Split: TypeAlias = Literal[
    "low_vs_high", "one_vs_rest", "two_vs_rest", "three_vs_rest", "sampled"
]
"""FLIP's splits by name: trained on fitness below 1, on at most so many mutations, or a share."""


class Variants:
    """The measured variants: a landscape (`noiseloom.data.Landscape`) that knows what is in it.

    Valid is a row that differs from the protein at the four sites alone; its value is its measured
    fitness, and NaN where it was not measured: nothing is filled in.

    Args:
        fitness: by the four residues, "VDGV" being the protein's own.

    Raises:
        ValueError: no variant, or four letters that are no amino acids.
    """

    words = Symbols(AMINO_ACIDS, len(_DOMAIN))
    """What the classes of rows mean."""
    total = len(AMINO_ACIDS) ** len(_SITES)
    """All variants there are of the four sites."""

    def __init__(self, fitness: Mapping[str, float]) -> None:
        if not fitness:
            raise ValueError("there is no measured variant")
        self._table = torch.full((self.total,), torch.nan, dtype=torch.float64)
        wrong = [v for v in fitness if len(v) != len(_SITES) or set(v) - set(AMINO_ACIDS)]
        if wrong:
            raise ValueError(f"a variant is four amino acids, got {wrong[0]!r}")
        letters = torch.tensor([[AMINO_ACIDS.index(c) for c in v] for v in fitness])
        self._table[_code(letters)] = torch.tensor(list(fitness.values()), dtype=torch.float64)

    def __len__(self) -> int:
        """How many are measured."""
        return int(self._table.isfinite().sum())

    @classmethod
    def valid(cls, rows: Tensor) -> Tensor:
        """Whether rows (N, 56) are variants of the four sites, bool, shape (N,)."""
        own = cls.words.encode([_DOMAIN]).to(rows.device)
        if rows.ndim != 2 or rows.shape[1] != own.shape[1]:
            raise ValueError(f"rows must have shape (N, {own.shape[1]}), got {tuple(rows.shape)}")
        same = rows == own
        same[:, list(_SITES)] = True
        sites = rows[:, list(_SITES)]
        return same.all(1) & ((sites >= 0) & (sites < len(AMINO_ACIDS))).all(1)

    @classmethod
    def why_not(cls, row: Tensor, letters: str) -> str:
        """Why a row (56,) is no variant of the four sites; "" if it is."""
        if cls.valid(row[None]).all():
            return ""
        tokens = row.tolist()
        length = next((i for i, a in enumerate(tokens) if not 0 <= a < len(letters)), len(tokens))
        if length < len(_DOMAIN):
            return f"it has {length} residues, and GB1 has {len(_DOMAIN)}"
        text = "".join(letters[a] for a in tokens)
        site = next(i for i, a in enumerate(text) if a != _DOMAIN[i] and i not in _SITES)
        return (
            f"it has {text[site]} at site {site + 1}, where GB1 has {_DOMAIN[site]}: variants "
            f"differ at {_ALONE}"
        )

    def value(self, rows: Tensor) -> Tensor:
        """The fitness of rows (N, 56), float64; NaN where that was not measured."""
        valid = self.valid(rows)
        sites = rows[:, list(_SITES)].long()
        places = _code(torch.where(valid[:, None], sites, 0))
        found = self._table.to(rows.device)[places]
        return found.masked_fill(~valid, torch.nan)

    def draw(self, count: int, rng: Rng) -> Tensor:
        """Variants with random residues at the four sites, measured or not, int64, (count, 56)."""
        rows = self.words.encode([_DOMAIN]).repeat(count, 1)
        letters = rng.samples(count).integers(len(AMINO_ACIDS), (count, len(_SITES)))
        rows[:, list(_SITES)] = letters
        return rows


@dataclass(frozen=True, eq=False)
class GB1:
    """One of FLIP's splits of GB1.

    Attributes:
        train: to train on, rows of 56 classes by `Variants.words`.
        validation: of the same kind, to choose by.
        test: of another kind.
        measured: the landscape: what is known of any row.
    """

    train: Tokens
    validation: Tokens
    test: Tokens
    measured: Variants


def read_gb1(
    path: str | os.PathLike[str],
    split: GB1Split = "low_vs_high",
    *,
    table: str | os.PathLike[str] | None = None,
) -> GB1:
    """Read FLIP's files of GB1, zipped or not.

    Args:
        path: flip_gb1_splits.zip, with splits/NAME.csv for each split (8,733 variants), one of
            these files, or four_mutations_full_data.csv with all that were measured, whose columns
            name the splits as well.
        split: which.
        table: another such file, all of whose variants are what `measured` knows; by default those
            of `path`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, a damaged one, or one without this split; a row that is no variant
            of GB1, is there twice or whose fitness is no number, by its line; no variant in a part;
            or fitness that differs between the two files.
    """
    if split not in get_args(GB1Split):
        raise ValueError(f"split must be one of {', '.join(get_args(GB1Split))}, got {split!r}")
    fitness, parts = _read(Path(path).expanduser(), split)
    known = fitness
    if table is not None:
        known, _ = _read(Path(table).expanduser(), split)
        for variant in parts:
            # The same digits were read by two programs: a last place may differ.
            if variant in known and abs(known[variant] - fitness[variant]) > 1e-6:
                raise ValueError(
                    f"the fitness of {variant} is {fitness[variant]:g} in {path} and "
                    f"{known[variant]:g} in {table}"
                )
    rows: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for variant, part in parts.items():
        rows[part].append(variant)
    for part, found in rows.items():
        if not found:
            raise ValueError(f"{path} has no variant for {part} in the split {split}")
    words = Variants.words
    sets = {
        part: Tokens(words.encode([_whole(v) for v in found]), words.sizes)
        for part, found in rows.items()
    }
    return GB1(**sets, measured=Variants(known))


def domain_of(sequence: str) -> str:
    """A variant's own residues, of FLIP's construct that goes on behind them; else as it is."""
    own = sequence[: len(_DOMAIN)]
    variant = "".join(own[site : site + 1] for site in _SITES)
    return own if len(sequence) in _LENGTHS and own == _whole(variant) else sequence


def _read(path: Path, split: str) -> tuple[dict[str, float], dict[str, str]]:
    """The fitness of every variant of a file, and the parts of those that are in the split."""
    fitness: dict[str, float] = {}
    parts: dict[str, str] = {}
    with _opened(path, split) as text:
        reader = csv.DictReader(text)
        names = list(reader.fieldnames or ())
        whole = "Fitness" in names
        value = "Fitness" if whole else "target"
        part, chosen = (split, f"{split}_validation") if whole else ("set", "validation")
        for name in ("sequence", value, part, chosen):
            if name not in names:
                raise ValueError(f"no column {name!r}: this is no file of FLIP's GB1 variants")
        for row in reader:
            where = f"line {reader.line_num}"
            variant = _variant(row["sequence"] or "", where)
            if variant in fitness:
                raise ValueError(f"{where}: the variant {variant} is there twice")
            fitness[variant] = _number(row[value], where)
            if not row[part] and whole:
                continue  # measured, and in no split
            if row[part] not in ("train", "test"):
                raise ValueError(f"{where}: a variant is of train or test, not of {row[part]!r}")
            held = row[chosen] == "True" and row[part] == "train"
            parts[variant] = "validation" if held else row[part]
    return fitness, parts


@contextmanager
def _opened(path: Path, split: str) -> Iterator[TextIO]:
    """The text of a file, or of the one within a .zip; errors become one line with its name."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8", newline="") as text:
                yield text
            return
        if path.is_dir() or path.suffix.lower() != ".zip":
            raise ValueError("this is no .zip or .csv file of FLIP's GB1 variants")
        with zipfile.ZipFile(path) as archive:
            inside = [n for n in archive.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
            names = {Path(name).stem: name for name in inside}
            name = names.get(split) or names.get("four_mutations_full_data")
            if name is None:
                told = ", ".join(sorted(names)) or "no .csv file"
                raise ValueError(f"there is no split {split!r} in it: it has {told}")
            with io.TextIOWrapper(archive.open(name), encoding="utf-8", newline="") as text:
                yield text
    except (csv.Error, EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{path}: {' '.join(str(reason).split())}") from error


def _variant(sequence: str, where: str) -> str:
    """The four residues of a sequence that is GB1's anywhere else."""
    domain = sequence[: len(_DOMAIN)]
    variant = "".join(domain[site : site + 1] for site in _SITES)
    if (
        len(sequence) not in _LENGTHS
        or domain != _whole(variant)
        or set(variant) - set(AMINO_ACIDS)
    ):
        raise ValueError(
            f"{where}: no variant of GB1, which differs from {_DOMAIN} at the sites "
            f"{', '.join(str(site + 1) for site in _SITES)} alone"
        )
    return variant


def _whole(variant: str) -> str:
    """The domain with these residues at the four sites."""
    return f"{_BEFORE}{variant[:3]}{_BETWEEN}{variant[3:]}{_AFTER}"


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if value - value != 0:  # NaN and infinity
        raise ValueError(f"{where}: the fitness {text!r} is no number")
    return value


def _code(letters: Tensor) -> Tensor:
    """The place of variants (N, 4) in a table of all."""
    places = torch.tensor([len(AMINO_ACIDS) ** i for i in range(len(_SITES))])
    return (letters * places.to(letters.device)).sum(1)
