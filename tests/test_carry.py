import pytest
import torch

from noiseloom.carry import drop_tokens, gather, repeat, scatter
from noiseloom.rng import Rng


def tree(batch=5):
    rng = Rng(0)
    return {
        "self_conditioning": {"estimate": rng.normal((batch, 3))},
        "memory": {"tokens": [rng.normal((batch, 7, 2)), (rng.normal((batch, 7)), None)]},
        "cache": {"tokens": {"keys": rng.normal((batch, 7, 4))}},
        "empty": {},
    }


def leaves(node):
    if isinstance(node, torch.Tensor):
        return [node]
    children = node.values() if isinstance(node, dict) else node or ()
    return [leaf for child in children for leaf in leaves(child)]


def test_gather_takes_rows_and_scatter_puts_them_back():
    rows = torch.tensor([3, 0])
    some = gather(tree(), rows)
    back = scatter(some, rows, 5)
    for leaf, part, put in zip(leaves(tree()), leaves(some), leaves(back), strict=True):
        assert torch.equal(part, leaf[rows])
        assert torch.equal(put[rows], leaf[rows])
        assert not put[torch.tensor([1, 2, 4])].any()


def test_scatter_hands_gradients_through():
    leaf = torch.ones(2, 3, requires_grad=True)
    scatter({"a": {"x": leaf}}, torch.tensor([4, 1]), 6)["a"]["x"].sum().backward()
    assert torch.equal(leaf.grad, torch.ones(2, 3))


def test_repeat_keeps_copies_of_a_row_together():
    for leaf, many in zip(leaves(tree()), leaves(repeat(tree(), 3)), strict=True):
        for b in range(5):
            assert all(torch.equal(many[3 * b + k], leaf[b]) for k in range(3))


def test_only_leaves_under_tokens_lose_tokens():
    dropped = drop_tokens(tree(), 2)
    assert torch.equal(
        dropped["self_conditioning"]["estimate"], tree()["self_conditioning"]["estimate"]
    )
    assert torch.equal(dropped["memory"]["tokens"][0], tree()["memory"]["tokens"][0][:, 2:])
    assert torch.equal(dropped["memory"]["tokens"][1][0], tree()["memory"]["tokens"][1][0][:, 2:])
    assert dropped["cache"]["tokens"]["keys"].shape == (5, 5, 4)
    assert isinstance(dropped["memory"]["tokens"][1], tuple)
    assert dropped["memory"]["tokens"][1][1] is None


def test_what_is_no_tensor_is_named():
    with pytest.raises(TypeError, match="not float"):
        repeat({"a": {"x": 1.0}}, 2)
