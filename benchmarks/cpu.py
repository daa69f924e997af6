"""The cost of a self-conditioned training step on a CPU: `python benchmarks/cpu.py`.

Steps of the demo's network with and without self-conditioning in turn, one thread; the median of
the ratios of neighbours. Theory: 1 + 0.5 / 3 = 1.17, target 1.3.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from noiseloom import Rng
from noiseloom.recipes import BitsDigits


def step_of(rate: float) -> Callable[[], None]:
    """A training step of `bits-digits`, of the network that is conditioned in either case."""
    recipe = BitsDigits()
    data = recipe.load(None).train
    facts = recipe.facts(recipe.load(None))
    with Rng(0).torch():
        parts = recipe.build(facts)
    loss = BitsDigits(self_conditioning=rate).loss(parts, facts)
    optimizer = torch.optim.AdamW(parts.denoiser.parameters(), fused=True)
    batch, rows = data[torch.arange(recipe.batch_size)], torch.arange(recipe.batch_size)
    rng = Rng(0).samples(recipe.batch_size)

    def step() -> None:
        loss(parts.denoiser, batch, rng, rows).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None], count: int = 10) -> float:
    """Of a few steps."""
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    plain, conditioned = step_of(0.0), step_of(0.5)
    for step in (plain, conditioned):
        seconds(step)
    ratios = [seconds(conditioned) / seconds(plain) for _ in range(15)]
    low, middle, high = (statistics.quantiles(ratios, n=4)[i] for i in range(3))
    result = {"ratio": middle, "quartiles": [low, high], "blocks": 15, "steps a block": 10}
    result |= {"torch": torch.__version__, "machine": platform.machine(), "threads": 1}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
