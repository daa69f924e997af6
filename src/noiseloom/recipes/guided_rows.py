"""Rows of tokens that can be guided: what sequences and tables have in common there.

A guide reads the states that are diffused: masked, uniform or marginal classes, or codes (bits,
onehot, embedding). The autoregressive state has no noise to be read at, and samples of the latent
one follow codes, of which a guide knows nothing: neither can be guided.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from torch import Tensor, nn

from noiseloom.class_denoiser import ClassDenoiser, CodeDenoiser
from noiseloom.data import Vocabulary, vocabulary
from noiseloom.data.labelled import Cells, label_columns, labels_of, read_cells
from noiseloom.data.tokens import Tokens
from noiseloom.nets import PooledStates, Transformer
from noiseloom.recipes.class_options import CODES
from noiseloom.recipes.classes import Classes
from noiseloom.recipes.code_schedule import code_table
from noiseloom.recipes.guidable import Guidable, Labelled
from noiseloom.recipes.recipe import Facts, Parts
from noiseloom.rng import Rng

__all__ = ["GuidedRows"]


@dataclass(frozen=True)
class GuidedRows(Guidable, Classes):
    """Options of `Classes`, for rows that can be guided.

    Subclasses say how rows of a file become tokens: `tokens_of`, `structure_columns`.
    """

    def check_guidable(self) -> None:
        """Rows without noise, and rows that follow codes, cannot be guided."""
        if self.state in ("autoregressive", "latent"):
            raise ValueError(
                f"a run of state {self.state} cannot be guided: train one of state masked, "
                "uniform, marginal, bits, onehot or embedding"
            )

    def structure_columns(
        self, cells: Cells, words: Vocabulary, labels: Sequence[str]
    ) -> tuple[str, ...]:
        """The columns of a file that say what a row is; those of `labels` were named as such."""
        raise NotImplementedError

    def tokens_of(self, cells: Cells, words: Vocabulary, columns: Sequence[str]) -> Tensor:
        """Tokens of the rows of a file, int64, shape (N, T); errors name the line."""
        raise NotImplementedError

    def labelled(self, path: str, facts: Facts, columns: Sequence[str] | None) -> Labelled:
        """Rows of a table, with labels in columns of their own."""
        words, cells = vocabulary(facts["vocabulary"]), read_cells(path)
        structure = self.structure_columns(cells, words, columns or ())
        names = label_columns(cells, columns, structure)
        tokens, labels = self.tokens_of(cells, words, structure), labels_of(cells, names)
        return Labelled(Tokens(tokens, tuple(facts["sizes"])), labels, names, cells.lines)

    def unlabelled(self, path: str, facts: Facts) -> Tokens:
        """Rows of a table; other columns than the run's are passed over."""
        words, cells = vocabulary(facts["vocabulary"]), read_cells(path)
        tokens = self.tokens_of(cells, words, self.structure_columns(cells, words, ()))
        return Tokens(tokens, tuple(facts["sizes"]))

    def told(self, batch: dict[str, Tensor], facts: Facts, rng: Rng) -> dict[str, Tensor]:
        """Nothing: these recipes know no classes of rows."""
        return {}

    def token_features(self, facts: Facts) -> int:
        """Numbers by which a guide's network is shown one token."""
        classes: int = max(facts["sizes"])
        if self.base not in CODES:
            return classes + (self.base == "masked")
        return code_table(self.base, self.code, self.features, classes).shape[1]

    def guide_network(self, facts: Facts, width: int, depth: int) -> nn.Module:
        """A transformer whose token states are averaged, through tanh (`PooledStates`)."""
        inner = self.guide_trunk(facts, self.token_features(facts), width, depth)
        return PooledStates(inner, width, width, learn=True)

    def guide_trunk(self, facts: Facts, inputs: int, width: int, depth: int) -> nn.Module:
        """A transformer of so many features of a token, whose output is left out."""
        heads = math.gcd(width, 4)
        found = Transformer(
            inputs,
            1,
            max_length=facts["length"],
            width=width,
            depth=depth,
            heads=heads,
            rotary=width // heads % 2 == 0,
        )
        found.trunk.output.requires_grad_(False)
        return found

    def hidden_network(self, parts: Parts, facts: Facts, width: int) -> nn.Module:
        """Reads what the denoiser's network says of classes, before it says it."""
        for module in parts.denoiser.modules():
            if isinstance(module, ClassDenoiser):
                return PooledStates(copy.deepcopy(module.network), self.width, width)
        raise ValueError(
            f"state {self.base} has no hidden states that a guide could read: that is for masked, "
            "uniform and marginal classes; leave --reads at states"
        )

    def space(self, parts: Parts, facts: Facts) -> dict[str, Any]:
        """Words, places, and the noise that is put on them."""
        found: dict[str, Any] = {
            name: facts[name] for name in ("vocabulary", "length", "sizes") if name in facts
        }
        found |= {"state": self.base, "schedule": self.schedule}
        if self.base == "bits":
            found["code"] = self.code
        if self.base == "marginal" or (self.base in CODES and self.schedule == "auto"):
            found["frequencies"] = facts["frequencies"]
        if self.base == "embedding":
            assert isinstance(parts.codec, CodeDenoiser)
            codes = parts.codec.codes.detach().cpu().contiguous().numpy()
            found["codes"] = blake2b(codes.tobytes(), digest_size=8).hexdigest()
        return found
