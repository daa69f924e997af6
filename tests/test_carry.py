import pytest
import torch

from noiseloom.carry import (
    append_tokens,
    caches,
    detach,
    gather,
    keep_tokens,
    repeat,
    scatter,
    slide_tokens,
    write_caches,
)
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


def test_detached_leaves_have_their_numbers_and_no_gradients():
    carry = {"a": {"tokens": [torch.ones(2, 3, requires_grad=True)]}, "b": (None,)}
    assert detach(carry)["b"] == (None,)
    (leaf,) = leaves(detach(carry))
    assert torch.equal(leaf, torch.ones(2, 3))
    assert not leaf.requires_grad


def test_repeat_keeps_copies_of_a_row_together():
    for leaf, many in zip(leaves(tree()), leaves(repeat(tree(), 3)), strict=True):
        for b in range(5):
            assert all(torch.equal(many[3 * b + k], leaf[b]) for k in range(3))


def test_only_leaves_under_tokens_lose_tokens():
    dropped = keep_tokens(tree(), 5)
    assert torch.equal(
        dropped["self_conditioning"]["estimate"], tree()["self_conditioning"]["estimate"]
    )
    assert torch.equal(dropped["memory"]["tokens"][0], tree()["memory"]["tokens"][0][:, 2:])
    assert torch.equal(dropped["memory"]["tokens"][1][0], tree()["memory"]["tokens"][1][0][:, 2:])
    assert dropped["cache"]["tokens"]["keys"].shape == (5, 5, 4)
    assert isinstance(dropped["memory"]["tokens"][1], tuple)
    assert dropped["memory"]["tokens"][1][1] is None


def test_caches_are_found_wherever_they_are_and_nothing_else():
    cache = {"tokens": {"keys": torch.ones(1, 2, 3)}}
    inner = {"cache": cache, "new": {"tokens": torch.ones(1, 1, 3)}, "self_conditioning": {}}
    both = {"with": inner, "without": {"cache": {}}}
    carry = {"guidance": both, "self_conditioning": {"estimate": torch.ones(1, 3)}}
    assert caches(carry) == {"guidance": {"with": {"cache": cache}, "without": {"cache": {}}}}
    assert caches({}) == {}


def test_one_owners_tree_is_handled_like_a_carry():
    cache = tree()["cache"]
    assert torch.equal(keep_tokens(cache, 5)["tokens"]["keys"], cache["tokens"]["keys"][:, 2:])
    assert keep_tokens(cache, 0)["tokens"]["keys"].shape == (5, 0, 4)
    assert keep_tokens(cache, 9)["tokens"]["keys"].shape == (5, 7, 4)
    both = append_tokens(cache, keep_tokens(cache, 2))
    assert both["tokens"]["keys"].shape == (5, 9, 4)


def test_tokens_are_appended_where_they_were_dropped():
    whole = tree()
    first = {**whole, "memory": {"tokens": [x[:, :3] for x in leaves(whole["memory"])]}}
    rest = {**whole, "memory": {"tokens": [x[:, 3:] for x in leaves(whole["memory"])]}}
    first["cache"] = {"tokens": {"keys": whole["cache"]["tokens"]["keys"][:, :3]}}
    rest["cache"] = keep_tokens({"cache": whole["cache"]}, 4)["cache"]
    first["self_conditioning"] = {"estimate": torch.zeros(5, 3)}
    joined = append_tokens(first, rest)
    assert joined.keys() == whole.keys()
    for a, b in zip(leaves(joined), leaves(whole), strict=True):
        assert torch.equal(a, b)


def test_an_empty_carry_is_extended_by_everything():
    assert leaves(append_tokens({}, tree()))[0].shape == (5, 3)
    both = append_tokens({"a": {"tokens": torch.ones(1, 2)}}, {"b": {"tokens": torch.ones(1, 3)}})
    assert {k: v["tokens"].shape[1] for k, v in both.items()} == {"a": 2, "b": 3}


def test_caches_are_written_wherever_they_are_and_the_rest_goes():
    old, new = ({"tokens": [torch.full((2, n, 3), float(n))]} for n in (4, 1))
    carry = {
        "guidance": {"with": {"cache": old, "new": new}, "without": {"cache": {}, "new": new}},
        "self_conditioning": {"estimate": torch.ones(2, 1, 3)},
    }
    written = write_caches(carry)
    assert written.keys() == {"guidance"}
    both = written["guidance"]["with"]["cache"]["tokens"][0]
    assert torch.equal(both, torch.cat((old["tokens"][0], new["tokens"][0]), 1))
    assert written["guidance"]["without"] == {"cache": new}
    assert write_caches({"self_conditioning": {"estimate": torch.ones(2)}}) == {}


def test_what_is_no_tensor_is_named():
    with pytest.raises(TypeError, match="not float"):
        repeat({"a": {"x": 1.0}}, 2)


def test_a_window_moves_on_with_all_that_is_of_its_tokens():
    x = torch.arange(12.0).reshape(2, 6)
    moved = slide_tokens({"a": {"b": x, "c": (x[..., None],)}}, 2, 6)
    right = torch.cat((x[:, 2:], torch.zeros(2, 2)), 1)
    assert torch.equal(moved["a"]["b"], right)
    assert torch.equal(moved["a"]["c"][0], right[..., None])
    for other in (torch.zeros(2), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match="a window of 6 tokens moves on"):
            slide_tokens({"a": other}, 2, 6)
