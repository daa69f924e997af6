"""A CUDA graph on the CPU: a record of operations and of the memory they read and write."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Record(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result


def capture(function, inputs):
    """What `noiseloom.replay._capture` does: the host's numbers stay as they were."""
    with _Record() as record:
        outputs = function(*inputs)

    @torch.no_grad()
    def launch():
        for operation, args, kwargs, result in record.operations:
            aliases = [value.alias_info for value in operation._schema.returns]
            if any(alias is not None and not alias.is_write for alias in aliases):
                continue  # a view: it is where it was
            new = operation(*args, **kwargs)
            if aliases and aliases[0] is None and isinstance(new, torch.Tensor):
                result.copy_(new)
            elif aliases and aliases[0] is None and isinstance(new, tuple | list):
                for place, value in zip(result, new, strict=True):
                    if isinstance(place, torch.Tensor):
                        place.copy_(value)

    return launch, outputs
