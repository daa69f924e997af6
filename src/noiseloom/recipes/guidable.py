"""Recipes whose runs can be guided: what a guide must know of their data, and how it is told.

A guide says what a property of a structure is, seen from any noise level (`noiseloom.context`). It
is trained for a finished run (`noiseloom.fit_guide`) on states as the run's own training makes
them, by `clean` and `told` of the recipe, and leads the run's samples (`noiseloom.steering`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.shapes import Cond, State
from noiseloom.training import Data

__all__ = ["Guidable", "Labelled", "keys_of"]

_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Labelled:
    """Structures with labels.

    Attributes:
        rows: the structures: batches are as those that the run was trained on.
        labels: float64, shape (N, J): small effects on a large offset keep their digits.
        names: of the J properties.
        lines: where in the file each is; none if that is unknown, or no line of a file.
    """

    rows: Data
    labels: Tensor
    names: tuple[str, ...]
    lines: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, path: str, row: int) -> str:
        """Where a structure of a file is, for errors: its line, where that is known."""
        return f"{path}, line {self.lines[row]}" if self.lines else path


class Guidable:
    """What is asked of a recipe, besides all else, for its runs to be guided; a mix-in.

    Attributes:
        guide_told: names of the conditions that guides are told while samples are drawn.
        distance: what `nearest` measures, for people.
        beside: ending of the file that `write_structures` makes, "" for none: what is there under
            that name is replaced only where that was asked for.
        pictured: whether `picture` draws: hits then have a picture beside their table.
        own_sources: words that stand for files of the recipe's own: of `labels`, `context`,
            `shifted` and `test`, those that it has itself, so that none need be named. `labelled`
            and `unlabelled` are given them as paths.
        label_figures: names of `figures` that say "label" of the recipe's own: they are not told of
            samples that guides of others lead.
        held_out_known: whether structures of the run's data that were held out are not new.
    """

    guide_told: ClassVar[tuple[str, ...]] = ("mask",)
    distance: ClassVar[str] = "distance"
    beside: ClassVar[str] = ""
    pictured: ClassVar[bool] = False
    own_sources: ClassVar[Mapping[str, str]] = {}
    label_figures: ClassVar[tuple[str, ...]] = ()
    held_out_known: ClassVar[bool] = True

    def check_guidable(self) -> None:
        """Raise ValueError if runs of these options have no states that a guide could read."""

    def labelled(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        """Structures and labels of a file, read as the run reads its data.

        Args:
            path: of the file.
            facts: of the run: its words, its schema.
            columns: that hold labels; None for the only one of numbers.

        Raises:
            FileNotFoundError: no such file.
            ValueError: what cannot be read, with file and line.
        """
        raise NotImplementedError

    def labels_itself(self, path: str) -> bool:
        """Whether labels of a path are the recipe's own, for which `true_values` are the truth.

        By default those of `own_sources` are.

        Args:
            path: as `labelled` is given it; the file itself need not be there.
        """
        return path in self.own_sources.values()

    def unlabelled(self, path: str, facts: Facts) -> Data:
        """Structures of a file without labels, as training batches have them.

        Raises:
            FileNotFoundError: no such file.
            ValueError: what cannot be read, with file and line.
        """
        raise NotImplementedError

    def guide_network(self, facts: Facts, width: int, depth: int) -> nn.Module:
        """A network for `Guide`, drawn from PyTorch's generators: (x, log_snr, cond) -> (B, width).

        Args:
            facts: of the run.
            width: features of the embedding.
            depth: blocks.
        """
        raise NotImplementedError

    def hidden_network(self, parts: Parts, facts: Facts, width: int) -> nn.Module:
        """A network for `Guide` that reads the denoiser's hidden states, `PooledStates`.

        Raises:
            ValueError: there are none that could be moved.
        """
        raise ValueError(
            f"{type(self).__name__} has no denoiser whose hidden states a guide could read: leave "
            "--reads at states"
        )

    def keys(self, parts: Parts, facts: Facts, data: Tensor) -> list[str]:
        """A text for each structure: what is written, and what makes two the same; "" if invalid.

        Args:
            parts: of the run.
            facts: of the run.
            data: as `Recipe.decode` returns samples.
        """
        raise NotImplementedError

    def why_not(self, facts: Facts, row: Tensor) -> str:
        """Why a decoded structure cannot be, in a line; "" if it can, or nobody knows.

        Args:
            facts: of the run.
            row: one sample as `Recipe.decode` returns it, without the axis of the batch.
        """
        return ""

    def nearest(self, made: Sequence[str], known: Sequence[str]) -> Tensor:
        """The `distance` of each structure to the nearest known one, both given by their keys."""
        raise NotImplementedError

    def seen(self, parts: Parts, facts: Facts, data: Tensor) -> tuple[State, Cond]:
        """The clean states of decoded structures, and what a guide is told beside them."""
        return parts.codec.encode(data), {}

    def columns(self, facts: Facts) -> tuple[str, ...]:
        """Headings of what is written of a structure."""
        return ("structure",)

    def cells(self, parts: Parts, facts: Facts, data: Tensor) -> list[list[Any]]:
        """What is written of each structure, under the headings of `columns`: its key."""
        return [[key] for key in self.keys(parts, facts, data)]

    def figures(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, float]:
        """What can be computed of all that was drawn, invalid ones among it: by default nothing."""
        return {}

    def true_values(self, parts: Parts, facts: Facts, data: Tensor) -> dict[str, Tensor]:
        """What decoded structures are truly worth, by the names of properties: by default nothing.

        float64, shape (N,), NaN where a structure is invalid or nobody knows. What a guide says of
        a property is held against it by its name (`noiseloom evaluate RUN --guide FOLDER`), if it
        has learnt labels of the recipe's own (`labels_itself`).
        """
        return {}

    def write_structures(
        self,
        path: Path,
        parts: Parts,
        facts: Facts,
        data: Tensor,
        values: Mapping[str, Sequence[Any]],
    ) -> Path | None:
        """Write structures in a format of their own beside the table of samples, if there is one.

        Args:
            path: of the table; the file has another ending.
            parts: of the run.
            facts: of the run.
            data: decoded samples, in the order of the table.
            values: the other columns of the table, by heading.

        Returns:
            The file, or None.
        """
        return None

    def picture(self, parts: Parts, facts: Facts, data: Tensor, captions: Sequence[str]) -> str:
        """An SVG of valid structures, each with a line below it; "" of a recipe that draws none.

        Args:
            parts: of the run.
            facts: of the run.
            data: decoded structures, shape (N, ...), at least one.
            captions: N lines of plain ASCII: not every drawer has other letters.
        """
        return ""

    def space(self, parts: Parts, facts: Facts) -> dict[str, Any]:
        """What two runs must have in common for one guide to be of both; plain JSON values."""
        return {name: value for name, value in facts.items() if name != "fingerprint"}


def keys_of(recipe: Any, parts: Parts, facts: Facts, rows: Data) -> list[str]:  # noqa: ANN401
    """The keys of structures as training batches have them: through the states and back."""
    device, found = next(parts.denoiser.parameters()).device, list[str]()
    for start in range(0, len(rows), _BATCH):
        batch = rows[torch.arange(start, min(start + _BATCH, len(rows)))]
        clean = recipe.clean(parts, {name: value.to(device) for name, value in batch.items()})
        found += recipe.keys(parts, facts, recipe.decode(parts, clean, {}))
    return found
