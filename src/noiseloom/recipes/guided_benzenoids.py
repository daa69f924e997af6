"""Benzenoids that can be guided: what a guide learns from, and how draws are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from noiseloom.data import Benzenoids, smiles, snap
from noiseloom.data.hexagon_picture import hexagon_picture
from noiseloom.data.labelled import label_columns, labels_of, read_cells
from noiseloom.data.whole_file import write_text
from noiseloom.nets import PointEncoder
from noiseloom.recipes.benzenoid_sets import (
    CLUSTERED,
    WORDS,
    Splitting,
    distances,
    drawn_report,
    from_file,
    part,
)
from noiseloom.recipes.guidable import Guidable, Labelled
from noiseloom.recipes.recipe import Facts, Parts

__all__ = ["GuidedBenzenoids"]

_LEAST, _MOST = 5, 13
_SHOWN = 64
"""Structures of a picture."""


@dataclass(frozen=True)
class GuidedBenzenoids(Guidable):
    """Options of which benzenoids there are.

    Attributes:
        rings: of every structure, 5 to 13; 11 are the paper's.
        split: what is trained on: the larger of two clusters by how rings turn (cluster), the half
            with the larger gaps (labels), or as many at random (random). auto is cluster from 8
            rings on, and labels below, where there are too few for clusters.
        sigma_max: noise at time 1, in bond lengths.
    """

    distance: ClassVar[str] = "1 - Tanimoto similarity of how rings turn"
    beside: ClassVar[str] = ".svg"
    pictured: ClassVar[bool] = True
    own_sources: ClassVar[Mapping[str, str]] = {
        "labels": "train",
        "context": "others",
        "shifted": "validation",
        "test": "test",
    }
    held_out_known: ClassVar[bool] = False

    rings: int = 11
    split: Splitting = "auto"
    sigma_max: float = 20.0

    def check_rings(self) -> None:
        """Raise ValueError if there are no such benzenoids, or no such split of them."""
        if not _LEAST <= self.rings <= _MOST:
            raise ValueError(f"rings must be {_LEAST} to {_MOST}, got {self.rings}")
        if self.split == "cluster" and self.rings < CLUSTERED:
            raise ValueError(
                f"benzenoids of {self.rings} rings are too few for clusters: --split labels or "
                f"random, or --rings {CLUSTERED} or more"
            )
        if not self.sigma_max > 1:
            raise ValueError(f"sigma_max must be above 1 bond length, got {self.sigma_max}")

    def labelled(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        """A part of the data with its gaps, "train" for one; or a table of keys and numbers."""
        if path in WORDS:
            if columns is not None and tuple(columns) != ("gap",):
                raise ValueError(
                    f"benzenoids have one label of their own, gap, and no {', '.join(columns)}: "
                    "name a file of labels"
                )
            own = part(self.rings, self.split, path)
            labels = own.gaps.double()[:, None]
            return Labelled(own, labels, ("gap",))
        cells = read_cells(path)
        found, column = from_file(path, self.rings, columns or ())
        names = label_columns(cells, columns, (column,))
        return Labelled(found, labels_of(cells, names), names, cells.lines)

    def labels_itself(self, path: str) -> bool:
        """Those of a part of the data."""
        return path in WORDS

    def unlabelled(self, path: str, facts: Facts) -> Benzenoids:
        """A part of the data, "others" for one; or the keys of a table."""
        if path in WORDS:
            return part(self.rings, self.split, path)
        return from_file(path, self.rings, ())[0]

    def guide_network(self, facts: Facts, width: int, depth: int) -> nn.Module:
        """An invariant network of points."""
        return PointEncoder(width=width, depth=depth)

    def space(self, parts: Parts, facts: Facts) -> dict[str, Any]:
        """Rings, and the units and noise of states."""
        return {"rings": self.rings, "std": facts["std"], "sigma_max": self.sigma_max}

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """The canonical keys, "" for points that are no benzenoid."""
        return [key or "" for key in snap(data).keys]

    def nearest(self, made: Sequence[str], known: Sequence[str]) -> Tensor:
        """1 - Tanimoto similarity of the counts of turns."""
        return distances(made, known, self.rings)

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """Key, true gap in |beta|, and SMILES."""
        return ("structure", "gap", "smiles")

    def cells(self, parts: Parts, facts: Facts, data: Tensor) -> list[list[Any]]:
        """What is written of each structure; nothing of one that is none."""
        found = snap(data)
        written = iter(smiles(found.cells[found.valid]) if found.valid.any() else [])
        return [
            [key, round(gap, 6), next(written)] if key else ["", "", ""]
            for key, gap in zip(found.keys, found.gaps.tolist(), strict=True)
        ]

    def figures(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, float]:
        """True figures of all that was drawn."""
        return drawn_report(snap(data), self.rings, self.split)

    def true_values(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, Tensor]:
        """The Hueckel gap of every structure."""
        return {"gap": snap(data).gaps}

    def picture(self, parts: Parts, facts: Facts, data: Tensor, captions: Sequence[str]) -> str:
        """Their hexagons, six side by side."""
        return hexagon_picture(snap(data).cells, captions, 6)

    def write_structures(
        self,
        path: Path,
        parts: Parts,
        facts: Facts,
        data: Tensor,
        values: Mapping[str, Sequence[Any]],
    ) -> Path:
        """A picture beside the table, of the first valid ones with their gaps."""
        found, path = snap(data), path.with_suffix(self.beside)
        rows = found.valid.nonzero()[:_SHOWN, 0]
        told = [f"{gap:.3f}" for gap in found.gaps[rows].tolist()]
        write_text(path, hexagon_picture(found.cells[rows], told))
        return path
