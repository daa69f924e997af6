"""Networks for graphs: they know no order, keep edges symmetric, and see nothing of padding."""

import math

import pytest
import torch

from noiseloom.nets import GraphEncoder, GraphTransformer
from noiseloom.rng import Rng

F64 = torch.float64
B, N, F, E = 4, 6, 3, 2
COUNTS = torch.tensor([6, 3, 1, 4])
MASK = torch.arange(N) < COUNTS[:, None]
PAIRS = MASK[:, :, None] & MASK[:, None] & ~torch.eye(N, dtype=torch.bool)
ORDER = torch.tensor([4, 2, 0, 5, 1, 3])
NODE_TIMES = torch.linspace(-5, 5, B * N).reshape(B, N)
CLOCKS = {
    "per sample": {"nodes": torch.linspace(-6, 7, B), "edges": torch.linspace(5, -5, B)},
    "per entry": {
        "nodes": NODE_TIMES,
        "edges": torch.minimum(NODE_TIMES[:, :, None], NODE_TIMES[:, None]),
    },
}
SIZES = {"width": 12, "edge_width": 6, "depth": 2, "heads": 3}
clocks = pytest.mark.parametrize("log_snr", CLOCKS.values(), ids=CLOCKS)
told = pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything"])


def state(name="x", dtype=F64):
    draw = Rng(0).fold(name)
    edges = draw.fold("edges").normal((B, N, N, E), dtype)
    return {
        "nodes": draw.fold("nodes").normal((B, N, F), dtype),
        "edges": edges + edges.transpose(1, 2),
    }


def make(awake, everything=False):
    options = {"num_classes": 2, "self_conditioning": True, "walks": 5} if everything else {}
    return awake(GraphTransformer(F, E, **SIZES, **options)).eval()


def conditions(everything, dtype=F64):
    cond = {"mask": MASK}
    if everything:
        cond |= {"label": torch.tensor([0, 1, 2, 0]), "estimate": state("estimate", dtype)}
    return cond


def permuted(value):
    if isinstance(value, dict):
        return {k: permuted(v) for k, v in value.items()}
    if value.ndim < 2:
        return value
    value = value[:, ORDER]
    return value[:, :, ORDER] if value.ndim > 2 and value.shape[2] == N else value


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@clocks
@told
def test_permuting_nodes_permutes_what_is_said(log_snr, everything, awake):
    net, x, cond = make(awake, everything), state(), conditions(everything)
    expected = net(x, log_snr, cond)
    close(net(permuted(x), permuted(log_snr), permuted(cond)), permuted(expected))
    assert expected["nodes"].abs().max() > 0.1
    assert expected["edges"].abs().max() > 0.1


@clocks
@told
def test_edges_are_symmetric_without_diagonal(log_snr, everything, awake):
    edges = make(awake, everything)(state(), log_snr, conditions(everything))["edges"]
    assert torch.equal(edges, edges.transpose(1, 2))
    assert not edges[~PAIRS].any()
    assert edges[PAIRS].all()


@clocks
@told
@pytest.mark.parametrize("nonsense", [7.0, 1e30, math.nan])
def test_padding_and_the_diagonal_take_no_part(log_snr, everything, nonsense, awake):
    net, x, cond = make(awake, everything), state(), conditions(everything)
    expected = net(x, log_snr, cond)
    assert not expected["nodes"][~MASK].any()

    def spoilt(parts):
        return {
            "nodes": torch.where(MASK[..., None], parts["nodes"], nonsense),
            "edges": torch.where(PAIRS[..., None], parts["edges"], nonsense),
        }

    other = {**cond, **({"estimate": spoilt(cond["estimate"])} if everything else {})}
    torch.testing.assert_close(net(spoilt(x), log_snr, other), expected, rtol=0, atol=0)
    for i, n in enumerate(COUNTS.tolist()):

        def alone(value, i=i, n=n):
            if isinstance(value, dict):
                return {k: alone(v) for k, v in value.items()}
            value = value[i : i + 1]
            value = value[:, :n] if value.ndim > 1 else value
            return value[:, :, :n] if value.ndim > 2 and value.shape[2] == N else value

        own = {k: alone(v) for k, v in cond.items() if k != "mask"}
        close(net(alone(x), alone(log_snr), own), alone(expected))


def test_log_snrs_of_padding_take_no_part(awake):
    net, x, log_snr = make(awake), state(), CLOCKS["per entry"]
    expected = net(x, log_snr, {"mask": MASK})
    other = {
        "nodes": torch.where(MASK, log_snr["nodes"], 3.0),
        "edges": torch.where(PAIRS, log_snr["edges"], -7.0),
    }
    torch.testing.assert_close(net(x, other, {"mask": MASK}), expected, rtol=0, atol=0)


def test_a_time_for_each_entry_that_is_the_same_for_all_is_a_time_for_all(awake):
    net, x, one = make(awake), state(), {"nodes": torch.zeros(B), "edges": torch.full((B,), -2.0)}
    each = {"nodes": torch.zeros(B, N), "edges": torch.full((B, N, N), -2.0)}
    found, expected = net(x, each, {"mask": MASK}), net(x, one, {"mask": MASK})
    # A node without edges is told log-SNR 0 of them, for want of any.
    several = COUNTS > 1
    close({k: v[several] for k, v in found.items()}, {k: v[several] for k, v in expected.items()})


def test_the_output_is_0_at_first_and_everything_can_learn():
    with Rng(0).torch():
        net = GraphTransformer(F, E, **SIZES, num_classes=2, self_conditioning=True)
    x, cond = state(dtype=torch.float32), conditions(True, torch.float32)
    assert not any(part.any() for part in net(x, CLOCKS["per entry"], cond).values())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(4):
        optimiser.zero_grad()
        y = net(x, CLOCKS["per entry"], cond)
        goals = {k: Rng(1).fold(k).normal(v.shape) for k, v in y.items()}
        sum((y[k] - goals[k]).square().sum() for k in y).backward()
        optimiser.step()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    "name", ["label", "estimate", "nodes", "edges", "mask", "level of nodes", "level of edges"]
)
def test_everything_it_is_told_has_an_effect(name, awake):
    net, x, cond, log_snr = make(awake, True), state(), conditions(True), CLOCKS["per sample"]
    expected = net(x, log_snr, cond)
    if name == "label":
        cond = {**cond, "label": 1 - cond["label"].clamp(max=1)}
    elif name == "estimate":
        null = {**cond, "estimate": {k: torch.zeros_like(v) for k, v in x.items()}}
        cond = {k: v for k, v in cond.items() if k != "estimate"}
        torch.testing.assert_close(net(x, log_snr, cond), net(x, log_snr, null), rtol=0, atol=0)
    elif name == "mask":
        cond = {**cond, "mask": torch.ones_like(MASK)}
    elif name in x:
        x = {**x, name: x[name] * 1.1}
    else:
        part = name.split()[-1]
        log_snr = {**log_snr, part: log_snr[part] + 1}
    found = net(x, log_snr, cond)
    for part, real in (("nodes", MASK), ("edges", PAIRS)):
        changed = (found[part] - expected[part])[1][real[1]].abs().amax(-1)
        assert changed.min() > 1e-7


def test_dropout_is_keyed_per_sample(awake):
    net = awake(GraphTransformer(F, E, **SIZES, dropout=0.5))
    x, log_snr, keys = state(), CLOCKS["per sample"], torch.tensor([5, 6, 7, 8])
    y = net(x, log_snr, {"mask": MASK, "dropout": keys})
    row = slice(1, 2)
    alone = net(
        {k: v[row] for k, v in x.items()},
        {k: v[row] for k, v in log_snr.items()},
        {"mask": MASK[row], "dropout": keys[row]},
    )
    close({k: v[row] for k, v in y.items()}, alone)
    other = net(x, log_snr, {"mask": MASK, "dropout": keys + 1})
    assert (other["nodes"] - y["nodes"])[MASK].abs().max() > 1e-3
    with pytest.raises(ValueError, match="needs one key per sample"):
        net(x, log_snr)
    net.eval()
    torch.testing.assert_close(net(x, log_snr, {"dropout": keys}), net(x, log_snr), rtol=0, atol=0)


def test_an_encoder_does_not_depend_on_the_order_or_on_padding(awake):
    encoder = awake(GraphEncoder(F, E, **SIZES, num_classes=2, walks=4))
    x, log_snr = state(), CLOCKS["per entry"]
    cond = {"mask": MASK, "label": torch.tensor([0, 1, 2, 0])}
    expected = encoder(x, log_snr, cond)
    assert expected.shape == (B, 12)
    close(encoder(permuted(x), permuted(log_snr), permuted(cond)), expected)
    spoilt = {
        "nodes": torch.where(MASK[..., None], x["nodes"], math.nan),
        "edges": torch.where(PAIRS[..., None], x["edges"], math.nan),
    }
    torch.testing.assert_close(encoder(spoilt, log_snr, cond), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="without self-conditioning"):
        encoder(x, log_snr, {"estimate": x})


def test_an_encoder_tells_graphs_apart_as_it_is_made():
    """The frozen random copy of a context regulariser is one."""
    with Rng(0).torch():
        encoder = GraphEncoder(F, E, width=24, edge_width=8, depth=3, heads=4)
    x, log_snr = state(dtype=torch.float32), CLOCKS["per sample"]
    h = encoder(x, log_snr)
    assert h.std(0).min() > 1e-3
    for part in x:
        assert (encoder({**x, part: -x[part]}, log_snr) - h).abs().amax(1).min() > 1e-3
        later = {**log_snr, part: log_snr[part] + 1}
        assert (encoder(x, later) - h).abs().amax(1).min() > 1e-4


def test_one_block_is_the_formula(awake):
    """Attention bent by edges, and edges that follow their nodes, with loops."""
    net = awake(GraphTransformer(F, E, width=8, edge_width=4, depth=1, heads=2)).eval()
    block = net.body.blocks[0]
    h, e = Rng(1).normal((1, N, 8), F64), Rng(2).normal((1, N, N, 4), F64)
    e = e + e.transpose(1, 2)
    shown = Rng(3).normal((1, 1, 48), F64)
    edge_shown = Rng(4).normal((1, 1, 1, 12), F64)
    real = torch.tensor([True] * 4 + [False] * 2)
    unseen = (~(real | torch.eye(N, dtype=torch.bool)))[None, None]
    found_h, found_e = block(h, e, shown, edge_shown, unseen, None)

    def show(v, shift, scale):
        return torch.nn.functional.layer_norm(v, v.shape[-1:], eps=1e-6) * (1 + scale) + shift

    s1, c1, g1, s2, c2, g2 = shown[0, 0].chunk(6)
    s3, c3, g3 = edge_shown[0, 0, 0].chunk(3)
    a, c = show(h[0], s1, c1), show(e[0], s3, c3)
    q, k, v = block.qkv(a).reshape(N, 3, 2, 4).unbind(1)
    bend = block.bend(c)
    out = []
    for i in range(N):
        row = []
        for m in range(2):
            seen = [j for j in range(N) if real[j] or j == i]
            logit = torch.stack(
                [q[i, m] @ k[j, m] / 2 * (1 + bend[i, j, m]) + bend[i, j, 2 + m] for j in seen]
            )
            p = logit.softmax(0)
            row.append((p[:, None] * v[seen, m]).sum(0))
            row.append((p[:, None] * c[i, seen]).sum(0))
        out.append(torch.cat((row[0], row[2], row[1], row[3])))
    expected = h[0] + g1 * block.out(torch.stack(out))
    expected = expected + g2 * block.mlp(show(expected, s2, c2))
    close(found_h[0], expected)
    p, q = block.ends(a).chunk(2, -1)
    for i in range(N):
        for j in range(N):
            u = block.own(c[i, j]) + p[i] + p[j] + q[i] * q[j]
            y = block.edge_out(torch.nn.functional.gelu(u, approximate="tanh"))
            close(found_e[0, i, j], e[0, i, j] + g3 * y)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's
def test_a_compiled_network_says_the_same(awake):
    net, x, cond, log_snr = make(awake, True), state(), conditions(True), CLOCKS["per entry"]
    expected = net(x, log_snr, cond)
    net.compile(dynamic=False, backend="aot_eager")
    close(net(x, log_snr, cond), expected)


def test_bad_input_is_refused():
    x, log_snr = state(dtype=torch.float32), CLOCKS["per sample"]
    net = GraphTransformer(F, E, **SIZES)
    with pytest.raises(ValueError, match=r"x: expected the parts \['edges', 'nodes'\], got one"):
        net(x["nodes"], log_snr)
    with pytest.raises(ValueError, match=r"log-SNRs of shapes \[\(4,\), \(4, 6\)\]"):
        net(x, {**log_snr, "edges": NODE_TIMES})
    with pytest.raises(ValueError, match=r"edges \(B, N, N, 2\)"):
        net({**x, "edges": x["edges"][:, :5]}, log_snr)
    with pytest.raises(ValueError, match=r"expected bool of shape \(4, 6\)"):
        net(x, log_snr, {"mask": MASK[:, :5]})
    with pytest.raises(ValueError, match="knows no condition 'codes'"):
        net(x, log_snr, {"codes": x})
    for sizes in ({"width": 12, "heads": 5}, {"width": 9, "heads": 3}, {"edge_width": 5}):
        with pytest.raises(ValueError, match="widths even, and heads a divisor of width"):
            GraphTransformer(F, E, **{**SIZES, **sizes})
    assert GraphTransformer(F, E, 5, 7, **SIZES)(x, log_snr)["edges"].shape == (B, N, N, 7)
