"""Causality layer by layer: what any module of any causal network says of a token, of the past."""

import torch
from causal_cases import BUILDS, EVERYTHING, PER_TOKEN, B

T = 11  # divides no other size of these networks, so that an axis of tokens shows by its length


def leaves(found):
    if isinstance(found, torch.Tensor):
        return [found]
    if isinstance(found, dict):
        found = list(found.values())
    return [x for part in found for x in leaves(part)] if isinstance(found, tuple | list) else []


def by_token(x):
    """(B, T, ...) of what has tokens on their own axis, or beside samples; None without tokens."""
    axes = [axis for axis, size in enumerate(x.shape) if size % T == 0]
    if not axes:
        return None
    if axes == [1] and x.shape[:2] == (B, T):
        return x
    assert axes == [0], x.shape
    assert len(x) == B * T, x.shape
    return x.unflatten(0, (B, T))


def heard(network, x, log_snr, cond):
    """By module, its outputs: with an axis of tokens, (B, T, ...), and those that have none."""
    calls = {}

    def keep(name):
        return lambda module, args, output: calls.setdefault(name, []).append(leaves(output))

    hooks = [m.register_forward_hook(keep(n)) for n, m in network.named_modules()]
    with torch.no_grad():
        network(x, log_snr, cond)
    for hook in hooks:
        hook.remove()
    tokens, others = {}, {}
    for name, outputs in calls.items():
        if len(outputs) == T:  # a cell, token after token
            tokens[name] = [torch.stack(each, 1) for each in zip(*outputs, strict=True)]
            assert all(y.shape[:2] == (B, T) for y in tokens[name])
            continue
        found = [y for output in outputs for y in output]
        tokens[name] = [z for y in found if (z := by_token(y)) is not None]
        others[name] = [y for y in found if by_token(y) is None]
    return tokens, others


@BUILDS
def test_no_module_of_any_kind_hears_of_the_future(build, awake):
    network = awake(build(**EVERYTHING)).float().train()
    x, log_snr, cond = build.inputs(EVERYTHING, length=T, dtype=torch.float32)
    cond["action_mask"][:] = True
    tokens, others = heard(network, x, log_snr, cond)
    kinds = {type(network.get_submodule(name)).__name__ for name in tokens}
    named = {"recurrent": {"GRUCell"}, "unet": {"Conv2d", "GroupNorm"}}
    assert kinds >= {"Linear", "Dropout", type(network).__name__, *named.get(build.name, ())}
    silent = [
        m for name, m in network.named_modules() if name not in tokens and not [*m.children()]
    ]
    assert not [m for m in silent if [*m.parameters()]]  # what was not called has nothing to say
    for t in range(1, T):
        after = {k: v.clone() if k in PER_TOKEN else v for k, v in cond.items()}
        z, level = x.clone(), log_snr.clone()
        for changed in (z, level, after["action"], after["estimate"]):
            changed[:, t:] += 2
        now, same = heard(network, z, level, after)
        for name, before in tokens.items():
            for y, new in zip(before, now[name], strict=True):
                assert torch.equal(new[:, :t], y[:, :t]), name
                assert (new - y)[:, t].any(), name
            assert all(map(torch.equal, same.get(name, ()), others.get(name, ()))), name
