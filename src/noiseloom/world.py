"""The number of processes that a launcher started, as it says in the environment."""

import os

__all__ = ["world_size"]


def world_size() -> int:
    """Processes that work together, this one among them; 1 where WORLD_SIZE is no such number."""
    try:
        return max(1, int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError:  # empty, say, as a launcher's variable that was exported without a value
        return 1
