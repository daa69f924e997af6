"""Molecules that can be guided: what a guide learns from, and how hits are written."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from noiseloom.data.chemistry import SCORES, scores
from noiseloom.data.clusters import label_folds, random_folds
from noiseloom.data.labelled import label_columns, labels_of, read_cells, text_column
from noiseloom.data.molecular_graphs import (
    ELEMENTS,
    corrected_graphs,
    molecules_of,
    smiles_of_graphs,
)
from noiseloom.data.molecule_files import molecule_picture, structure_file
from noiseloom.data.molecules import Molecules, parse_molecules, read_molecules
from noiseloom.metrics.molecules import molecule_report, nearest_similarity
from noiseloom.nets import GraphEncoder
from noiseloom.recipes.correcting import Correcting
from noiseloom.recipes.guidable import Guidable, Labelled
from noiseloom.recipes.molecule_states import GraphCodec
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.rng import Rng

__all__ = ["GuidedMolecules"]

_PARTS = re.compile(r"(.+):(train|validation|test|high|all)")
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


@dataclass(frozen=True)
class GuidedMolecules(Correcting, Guidable):
    """Options of what molecules there are, and what becomes of those that are drawn.

    Attributes:
        column: of a table, that holds SMILES; by default the one called smiles, or the only one.
        max_atoms: larger molecules are left out, hydrogens not counted.
        elements: molecules with others are left out.
        skip_bad: leave out what RDKit cannot read, instead of naming its line.
        split: what is trained on: the half of the lower labels, QED (10 - SA) / 9 (labels), or as
            many at random (random). The other half is held out, and cut in two at random:
            validation and test.
        scale: of the one-hot vectors of atoms, over their noise.
        edge_scale: of bond orders 0 to 3, over theirs: the larger, the sooner bonds are decided.
        schedule: of the noise of both.
        walks: steps of the longest walk along bonds that networks are shown, to know rings; 0 for
            none.
    """

    distance: ClassVar[str] = (
        "1 - Tanimoto similarity of Morgan fingerprints (radius 2, 1,024 bits)"
    )
    held_out_known: ClassVar[bool] = False
    label_figures: ClassVar[tuple[str, ...]] = (
        "label",
        "label_se",
        "label_top",
        "label_best",
        "above",
    )
    beside: ClassVar[str] = ".sdf"
    pictured: ClassVar[bool] = True

    column: str = ""
    max_atoms: int = 38
    elements: tuple[str, ...] = ELEMENTS
    skip_bad: bool = False
    split: Literal["labels", "random"] = "labels"
    scale: float = 1.5
    edge_scale: float = 2.0
    schedule: Literal["cosine", "sigmoid", "linear", "ddpm"] = "cosine"
    walks: int = 8

    def check_molecules(self) -> None:
        """Raise ValueError if options are out of range."""
        object.__setattr__(self, "elements", tuple(self.elements))  # files have lists
        if not 2 <= self.max_atoms <= 127:
            raise ValueError(f"max_atoms must be 2 to 127, got {self.max_atoms}")
        if self.walks < 0 or self.walks == 1:
            raise ValueError(f"walks have 2 steps or more, 0 for none, got {self.walks}")
        if not self.elements:
            raise ValueError("elements must name at least one, such as [C, N, O]")
        if not (0 < self.scale < math.inf and 0 < self.edge_scale < math.inf):
            raise ValueError(
                f"scale and edge_scale must be above 0, got {self.scale} and {self.edge_scale}"
            )

    def read(self, path: str, *, scored: bool = True) -> tuple[Molecules, tuple[str, ...]]:
        """All molecules of a file, and what was left out."""
        return read_molecules(
            path,
            column=(self.column or None) if path.lower().endswith((".csv", ".csv.gz")) else None,
            max_atoms=self.max_atoms,
            elements=self.elements,
            skip_bad=self.skip_bad,
            scored=scored,
        )

    def part(self, whole: Molecules, word: str) -> Molecules:
        """A part of the molecules of a file: train, validation, test, high (both), or all."""
        if word == "all":
            return whole
        rng = Rng(0).fold("molecules")
        found = label_folds(whole.labels, rng)
        if self.split == "random":
            found = random_folds((len(found.train), len(found.validation), len(found.test)), rng)
        if word == "high":
            return whole.select(torch.cat((found.validation, found.test)).sort().values)
        rows: Tensor = getattr(found, word)
        return whole.select(rows)

    def codec(self, facts: Facts) -> GraphCodec:
        """Graphs to states and back."""
        return GraphCodec(len(facts["kinds"]), self.scale, self.edge_scale)

    def fit(self, found: Molecules, facts: Facts, path: str) -> tuple[Molecules, Tensor]:
        """Molecules as the run knows them, and which they are.

        Warns:
            UserWarning: some that it does not know.

        Raises:
            ValueError: none that it knows.
        """
        own, rows = found.fitted(facts["kinds"], facts["atoms"])
        left = sorted({*range(len(found))} - {*rows.tolist()})
        if left:
            _tell(path, len(left), found.select(torch.tensor(left[:1])).keys[0], facts)
        if not len(own):
            raise ValueError(f"{path} holds no molecule of the atoms and the size that the run has")
        return own, rows

    def labelled(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        """A table of SMILES and numbers; or a file of SMILES, whose labels are computed.

        Of the latter the part of the lower labels is meant, or one that is named after a colon,
        FILE:validation, :test, :high (both) or :all.
        """
        match = _PARTS.fullmatch(path)
        if not self.labels_itself(path):
            return self._table(path, facts, columns)
        name, word = (match[1], match[2]) if match else (path, "train")
        if columns not in (None, ("qed_sa",)):
            told = ", ".join(columns or ())
            raise ValueError(f"of {name} one label is computed, qed_sa, and not {told}")
        own, _ = self.fit(self.part(self.read(name)[0], word), facts, path)
        return Labelled(own, own.labels.double()[:, None], ("qed_sa",))

    def labels_itself(self, path: str) -> bool:
        """Those that are computed, of all but a table."""
        return _PARTS.fullmatch(path) is not None or not path.lower().endswith(_TABLES)

    def _table(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        cells = read_cells(path)
        column = text_column(cells, self.column, columns or ())
        names = label_columns(cells, columns, (column,))
        labels = labels_of(cells, names)
        found, rows, notes = parse_molecules(
            cells.column(column),
            cells.places,
            max_atoms=facts["atoms"],
            kinds=facts["kinds"],
            elements=self.elements,
            skip_bad=self.skip_bad,
        )
        for note in notes:
            warnings.warn(f"{path}: {note}", stacklevel=2)
        if not rows:
            raise ValueError(f"{path} holds no molecule of the atoms and the size that the run has")
        lines = tuple(cells.lines[row] for row in rows)
        return Labelled(found, labels[rows], names, lines)

    def unlabelled(self, path: str, facts: Facts) -> Molecules:
        """Molecules of a file of SMILES, or of a part of it: FILE:validation, for one."""
        match = _PARTS.fullmatch(path)
        if match is None:
            found, notes = self.read(path, scored=False)
            left = [note for note in notes if "repeat another" not in note]
            if left:
                warnings.warn(f"{path}: {'; '.join(left)}", stacklevel=2)
            return self.fit(found, facts, path)[0]
        return self.fit(self.part(self.read(match[1])[0], match[2]), facts, path)[0]

    def guide_network(self, facts: Facts, width: int, depth: int) -> nn.Module:
        """A graph transformer, read as one vector."""
        return GraphEncoder(
            len(facts["kinds"]),
            1,
            width=width,
            edge_width=max(width // 8 * 2, 2),
            depth=depth,
            heads=math.gcd(width, 4),
            walks=self.walks,
        )

    def space(self, parts: Parts, facts: Facts) -> dict[str, Any]:
        """Atoms, how many, and the noise that is put on them."""
        own = {name: getattr(self, name) for name in ("scale", "edge_scale", "schedule")}
        return {"kinds": facts["kinds"], "atoms": facts["atoms"], **own}

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """Canonical SMILES, "" for what is no molecule in one piece."""
        return smiles_of_graphs(self._mended(data, facts), facts["kinds"])

    def nearest(self, made: Sequence[str], known: Sequence[str]) -> Tensor:
        """1 - Tanimoto similarity."""
        return 1 - nearest_similarity(made, known)

    def seen(self, parts: Parts, facts: Facts, data: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """The states of molecules as they are written, and which nodes are real."""
        codec = self.codec(facts)
        state = codec.encode(self._mended(data, facts).to(data.device))
        return state, {"mask": codec.mask(state)}

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """SMILES, and true scores."""
        return ("structure", *SCORES)

    def cells(self, parts: Parts, facts: Facts, data: Tensor) -> list[list[Any]]:
        """What is written of each molecule; nothing of what is none."""
        keys, found = self._scored(data, facts)
        empty: list[Any] = [""] * (1 + len(SCORES))
        each = zip(keys, found.tolist(), strict=True)
        return [[key, *(round(v, 6) for v in row)] if key else empty for key, row in each]

    def true_values(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, Tensor]:
        """The scores of every molecule, by RDKit."""
        return dict(zip(SCORES, self._scored(data, facts)[1].unbind(1), strict=True))

    def _scored(self, data: Tensor, facts: Facts) -> tuple[list[str], Tensor]:
        """Keys, and scores float64 (N, S), NaN for what is no molecule in one piece."""
        graphs = self._mended(data, facts)
        keys, molecules = (f(graphs, facts["kinds"]) for f in (smiles_of_graphs, molecules_of))
        there = torch.tensor([bool(key) for key in keys])
        found = torch.full((len(keys), len(SCORES)), math.nan, dtype=torch.float64)
        known = [m for m, key in zip(molecules, keys, strict=True) if key]
        found[there] = scores(known)
        return keys, found

    def figures(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, float]:
        """True figures of all that was drawn."""
        correct, ceiling = self.correct, facts["ceiling"]
        return molecule_report(data, facts["kinds"], correct=correct, ceiling=ceiling)[0]

    def picture(self, parts: Parts, facts: Facts, data: Tensor, captions: Sequence[str]) -> str:
        """Their structural formulas, by RDKit, of the molecules that are written."""
        return molecule_picture(molecules_of(self._mended(data, facts), facts["kinds"]), captions)

    def write_structures(
        self,
        path: Path,
        parts: Parts,
        facts: Facts,
        data: Tensor,
        values: Mapping[str, Sequence[Any]],
    ) -> Path | None:
        """An SDF file beside the table, with its columns as properties."""
        graphs, head = self._mended(data, facts), self.columns(facts)
        cells = list(zip(*self.cells(parts, facts, data), strict=True))
        told = {name: list(column) for name, column in zip(head, cells, strict=True)}
        molecules = molecules_of(graphs, facts["kinds"])
        return structure_file(path.with_suffix(self.beside), molecules, {**told, **values})

    def _mended(self, data: Tensor, facts: Facts) -> Tensor:
        return corrected_graphs(data, facts["kinds"]) if self.correct else data


def _tell(path: str, left: int, first: str, facts: Facts) -> None:
    warnings.warn(
        f"{left:,} molecules of {path} have atoms other than {', '.join(facts['kinds'])}, or "
        f"more than {facts['atoms']}, and are left out: {first} first",
        stacklevel=3,
    )
