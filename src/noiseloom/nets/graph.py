"""Transformers for graphs: nodes attend to each other as their edges say, and edges follow.

One block, with a_i and c_ij the normalised and modulated states of nodes and edges (adaLN-Zero, as
in `noiseloom.nets.trunk`), for each head

    l_ij = (q_i k_j / sqrt(d)) (1 + M c_ij) + A c_ij
    o_i = sum_j p_ij [v_j, c_ij],    p_i = softmax over real j of l_i
    h_i <- h_i + gate W o_i,         h_i <- h_i + gate mlp(a_i)
    e_ij <- e_ij + gate W' gelu(C c_ij + P a_i + P a_j + (Q a_i) * (Q a_j))

(C. Vignac et al., 2023, "DiGress", arXiv 2209.14734, Appendix B.1: attention scaled and shifted by
edges, and edges that see the products of their nodes; theirs has a weight per feature instead of
per head, and a vector for the whole graph instead of the modulation.) Edges stay symmetric, as what
they see of their nodes is. Permuting the nodes permutes what is said of nodes and edges. Padding
takes no part in anything, exactly. Messages between neighbours cannot tell a ring of six from two
of three: walks can (`noiseloom.nets.walks`), and may be put in beside the state.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.conditions import check_names
from noiseloom.nets.layers import Dropout, Embedding, initialise, perceptron, zero
from noiseloom.nets.nodes import (
    Clock,
    hidden_padding,
    masked_mean,
    real_nodes,
    real_pairs,
    take_estimate,
    take_parts,
)
from noiseloom.nets.trunk import modulate, norm
from noiseloom.nets.walks import Walks

__all__ = ["GraphEncoder", "GraphTransformer"]

_PARTS = ("nodes", "edges")


class GraphTransformer(nn.Module):
    """A network `(x, log_snr, cond) -> outputs` for graphs, some nodes of which are padding.

    A state is {"nodes": (B, N, F), "edges": (B, N, N, E)}, of edges the symmetric part off the
    diagonal. The output has the same form; it is 0 at initialisation and in padding, and its edges
    are symmetric, and 0 on the diagonal.

    Args:
        nodes: F, features of a node.
        edges: E, features of an edge.
        out_nodes: features of the prediction of nodes, F by default.
        out_edges: of edges, E by default.
        width: W, of the states of nodes inside.
        edge_width: of those of edges: there are N times as many.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        self_conditioning: whether it takes an estimate beside the state.
        dropout: rate at the end of every branch of every block.
        walks: steps of the longest walk that says something of rings (`Walks`); 0 for none.

    Raises:
        ValueError: a width that is odd, or that the heads do not divide.

    Example:
        >>> net = GraphTransformer(4, 2, width=16, edge_width=8, depth=1, heads=2)
        >>> x = {"nodes": torch.zeros(3, 5, 4), "edges": torch.zeros(3, 5, 5, 2)}
        >>> y = net(x, {"nodes": torch.zeros(3), "edges": torch.zeros(3)})
        >>> {name: tuple(part.shape) for name, part in y.items()}
        {'nodes': (3, 5, 4), 'edges': (3, 5, 5, 2)}
    """

    def __init__(
        self,
        nodes: int,
        edges: int,
        out_nodes: int | None = None,
        out_edges: int | None = None,
        *,
        width: int = 256,
        edge_width: int = 64,
        depth: int = 6,
        heads: int = 8,
        num_classes: int | None = None,
        self_conditioning: bool = False,
        dropout: float = 0.0,
        walks: int = 0,
    ) -> None:
        super().__init__()
        sizes = (width, edge_width, depth, heads)
        self.body = _Body(nodes, edges, sizes, num_classes, self_conditioning, dropout, walks)
        self.nodes = nn.Linear(width, nodes if out_nodes is None else out_nodes)
        self.edges = nn.Linear(edge_width, edges if out_edges is None else out_edges)
        initialise(self)
        zero(self.body.shows, self.body.edge_shows, self.nodes, self.edges)

    def forward(
        self,
        x: dict[str, Tensor],
        log_snr: dict[str, Tensor],
        cond: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Predict.

        Args:
            x: state of unit variance, {"nodes", "edges"}.
            log_snr: float32 in [-20, 20]; of nodes of shape (B,) or (B, N), of edges (B,) or
                (B, N, N), symmetric.
            cond: "mask", bool of shape (B, N), True for a real node; "label" (B,); "estimate" like
                x; "dropout" keys (B,).

        Returns:
            {"nodes": (B, N, out_nodes), "edges": (B, N, N, out_edges)}.

        Raises:
            ValueError: a shape that does not fit, or a condition the network was not built for.
        """
        h, e, mask = self.body(x, log_snr, cond or {})
        edges = self.edges(norm(e))
        return {
            "nodes": hidden_padding(self.nodes(norm(h)), mask),
            "edges": hidden_padding((edges + edges.transpose(1, 2)) / 2, real_pairs(mask)),
        }


class GraphEncoder(nn.Module):
    """One vector for a graph, whatever the order of its nodes: the network of a property's model.

        W [mean of the states of nodes, mean of those of pairs]

    As it is made it is a random function of all that it sees.

    Args:
        nodes: F, features of a node.
        edges: E, features of an edge.
        width: W, of the vector and of the states of nodes inside.
        edge_width: of those of edges.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        num_classes: K, for class labels 0 .. K - 1 and the null label K.
        dropout: rate at the end of every branch of every block.
        walks: steps of the longest walk that says something of rings (`Walks`); 0 for none.

    Example:
        >>> encoder = GraphEncoder(4, 2, width=16, edge_width=8, depth=1, heads=2)
        >>> x = {"nodes": torch.zeros(3, 5, 4), "edges": torch.zeros(3, 5, 5, 2)}
        >>> encoder(x, {"nodes": torch.zeros(3), "edges": torch.zeros(3)}).shape
        torch.Size([3, 16])
    """

    def __init__(
        self,
        nodes: int,
        edges: int,
        *,
        width: int = 256,
        edge_width: int = 64,
        depth: int = 6,
        heads: int = 8,
        num_classes: int | None = None,
        dropout: float = 0.0,
        walks: int = 0,
    ) -> None:
        super().__init__()
        self.width = width
        sizes = (width, edge_width, depth, heads)
        self.body = _Body(nodes, edges, sizes, num_classes, False, dropout, walks)
        self.output = nn.Linear(width + edge_width, width)
        initialise(self)

    def forward(
        self,
        x: dict[str, Tensor],
        log_snr: dict[str, Tensor],
        cond: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Embed: shape (B, W). Arguments and errors are those of `GraphTransformer.forward`."""
        h, e, mask = self.body(x, log_snr, cond or {})
        pairs = masked_mean(e.flatten(1, 2), real_pairs(mask).flatten(1))
        vector: Tensor = self.output(torch.cat((masked_mean(h, mask), pairs), -1))
        return vector


class _Body(nn.Module):
    """From a state to the states of nodes (B, N, W) and edges (B, N, N, W_e), and the mask."""

    def __init__(
        self,
        nodes: int,
        edges: int,
        sizes: tuple[int, int, int, int],
        num_classes: int | None,
        self_conditioning: bool,
        dropout: float,
        walks: int,
    ) -> None:
        super().__init__()
        width, edge_width, depth, heads = sizes
        if min(nodes, edges, *sizes) < 1 or width % heads or width % 2 or edge_width % 2:
            raise ValueError(
                f"a network of {nodes} and {edges} features, width {width}, edge_width "
                f"{edge_width}, depth {depth} and {heads} heads: sizes must be at least 1, widths "
                "even, and heads a divisor of width"
            )
        self.features, self.self_conditioning = (nodes, edges), self_conditioning
        self.clock = Clock(2, width, num_classes)
        self.edge_clock = Embedding(edge_width, edge_width)
        self.end_clock = nn.Linear(width, edge_width)
        self.node = nn.Linear(nodes * (1 + self_conditioning) + 1, width)  # and how many there are
        self.edge = nn.Linear(edges * (1 + self_conditioning), edge_width)
        self.walks = Walks(width, edge_width, walks) if walks else None
        self.shows = nn.Linear(width, 6 * width * depth)
        self.edge_shows = nn.Linear(edge_width, 3 * edge_width * depth)
        self.blocks = nn.ModuleList(
            _Block(width, edge_width, heads, dropout, 3 * i) for i in range(depth)
        )

    def forward(
        self, x: dict[str, Tensor], log_snr: dict[str, Tensor], cond: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        check_names(cond, ("mask", "label", "estimate", "dropout"))
        state, clocks = take_parts(x, _PARTS, "x"), take_parts(log_snr, _PARTS, "log_snr")
        self._check(state, clocks)
        mask = real_nodes(cond, state[0])
        pairs = real_pairs(mask)
        guess = take_estimate(cond, state, _PARTS, self.self_conditioning)
        seen = [state] if guess is None else [state, guess]
        nodes = torch.cat([hidden_padding(own[0], mask) for own in seen], -1)
        edges = torch.cat([hidden_padding(own[1], pairs) for own in seen], -1)
        count = mask.sum(1).clamp(min=1).to(nodes.dtype).log()[:, None, None]
        h = self.node(torch.cat((nodes, count.expand(*mask.shape, 1)), -1))
        e = self.edge((edges + edges.transpose(1, 2)) / 2)
        shown, edge_shown = self._shown(clocks, pairs, cond)
        # A node that has no other, and padding, see themselves, so that no row is without a weight.
        itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        unseen = ~(mask[:, None] | itself)[:, None]
        parts = zip(
            shown.chunk(len(self.blocks), -1), edge_shown.chunk(len(self.blocks), -1), strict=True
        )
        for i, (block, (own, between)) in enumerate(zip(self.blocks, parts, strict=True)):
            if self.walks is not None and i == len(self.blocks) // 2:
                # What comes in is noise; half way a bond is what has been made of it.
                h, e = self.walks(h, e, pairs)
            h, e = block(h, e, own, between, unseen, cond.get("dropout"))
        return h, e, mask

    def _shown(
        self, clocks: list[Tensor], pairs: Tensor, cond: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Modulations of nodes (B, 1 or N, ...) and of edges (B, 1 or N, 1 or N, ...)."""
        node, edge = clocks
        if edge.ndim == 3:
            # What a node is told is the mean of its edges, which tell the rest themselves; so is
            # the diagonal, which has no time. The sum must not know the order of the nodes.
            total = torch.where(pairs, edge, 0).to(self.end_clock.weight.dtype).sum(2)
            mean = total / pairs.sum(2).clamp(min=1)
            between = self.edge_clock(torch.where(pairs, edge, mean[:, :, None]), {})
            edge = mean
        else:
            between = self.edge_clock(edge, {})[:, None, None]
        own = self.clock([node, edge], cond)
        ends = self.end_clock(own)
        between = between + (ends[:, :, None] + ends[:, None])
        return self.shows(own), self.edge_shows(between)

    def _check(self, state: list[Tensor], clocks: list[Tensor]) -> None:
        nodes, edges = state
        batch, count = nodes.shape[:2]
        square = (batch, count, count)
        if not (
            nodes.shape == (batch, count, self.features[0])
            and edges.shape == (*square, self.features[1])
            and clocks[0].shape in ((batch,), (batch, count))
            and clocks[1].shape in ((batch,), square)
        ):
            raise ValueError(
                f"a state of shapes {[tuple(v.shape) for v in state]} and log-SNRs of shapes "
                f"{[tuple(v.shape) for v in clocks]}: expected nodes (B, N, {self.features[0]}) "
                f"and edges (B, N, N, {self.features[1]}), and log-SNRs (B,) or (B, N) of nodes, "
                "(B,) or (B, N, N) of edges"
            )


class _Block(nn.Module):
    """One round: nodes attend, think, and edges follow."""

    def __init__(self, width: int, edge_width: int, heads: int, dropout: float, layer: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.bend = nn.Linear(edge_width, 2 * heads)  # M and A
        self.out = nn.Linear(width + heads * edge_width, width)
        self.mlp = perceptron(width)
        self.own = nn.Linear(edge_width, edge_width)
        self.ends = nn.Linear(width, 2 * edge_width)  # P and Q
        self.edge_out = nn.Linear(edge_width, edge_width)
        self.drops = nn.ModuleList(Dropout(dropout, layer + i) for i in range(3))

    def forward(
        self,
        h: Tensor,
        e: Tensor,
        shown: Tensor,
        edge_shown: Tensor,
        unseen: Tensor,
        keys: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Nodes (B, N, W) and edges (B, N, N, W_e), given their modulations."""
        shift1, scale1, gate1, shift2, scale2, gate2 = shown.chunk(6, -1)
        shift3, scale3, gate3 = edge_shown.chunk(3, -1)
        drop1, drop2, drop3 = self.drops
        a, c = modulate(h, shift1, scale1), modulate(e, shift3, scale3)
        h = torch.addcmul(h, gate1, drop1(self._attend(a, c, unseen), keys))
        h = torch.addcmul(h, gate2, drop2(self.mlp(modulate(h, shift2, scale2)), keys))
        p, q = self.ends(a).chunk(2, -1)
        # Sums and products of two do not know their order: edges stay symmetric.
        u = self.own(c) + (p[:, :, None] + p[:, None]) + q[:, :, None] * q[:, None]
        y = self.edge_out(functional.gelu(u, approximate="tanh"))
        return h, torch.addcmul(e, gate3, drop3(y, keys))

    def _attend(self, a: Tensor, c: Tensor, unseen: Tensor) -> Tensor:
        batch, count, width = a.shape
        q, k, v = self.qkv(a).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scale, shift = self.bend(c).permute(0, 3, 1, 2).chunk(2, 1)  # (B, heads, N, N)
        logits = q @ k.mT * (1 + scale) / math.sqrt(width // self.heads) + shift
        weight = logits.masked_fill(unseen, -torch.inf).softmax(-1)
        nodes = (weight @ v).transpose(1, 2).reshape(batch, count, width)
        edges = weight.transpose(1, 2) @ c  # (B, N, heads, W_e)
        result: Tensor = self.out(torch.cat((nodes, edges.flatten(2)), -1))
        return result
