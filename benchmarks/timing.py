"""What the comparisons share: timing by device events and in turns, costs, tables of kernels."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from noiseloom import Rng

DEVICE = torch.device("cuda")
LAST = torch.channels_last
Step = Callable[[], None]


def milliseconds(step: Step, *, warmup: int = 5, block: int = 10, repeats: int = 7) -> float:
    """Median time of one step, over blocks of steps."""
    for _ in range(warmup):
        step()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(block):
            step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / block)
    return statistics.median(times)


def seconds(run: Callable[[], object], device: str) -> float:
    """Of one run."""
    begin = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def in_turns(
    runs: Mapping[str, Callable[[], object]], device: str, repeats: int, first: str = "ours"
) -> dict[str, dict[str, float]]:
    """Milliseconds of all, in turn, and of the others what the first takes of theirs."""
    for run in runs.values():
        seconds(run, device)
    blocks = [{name: seconds(run, device) for name, run in runs.items()} for _ in range(repeats)]
    found = {}
    for name in runs:
        found[name] = {"ms": 1e3 * statistics.median(block[name] for block in blocks)}
        if name != first:
            ratios = [block[first] / block[name] for block in blocks]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[name] |= {"ratio": middle, "low": low, "high": high}
    return found


def cost(network: nn.Module, *inputs: Tensor) -> dict[str, float]:
    """Parameters (M) and multiply-adds (G) per sample."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*(value[:1] for value in inputs))
    return {
        "parameters_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "gmac": counter.get_total_flops() / 2e9,
    }


def trainer(model: nn.Module, loss: Callable[[], Tensor]) -> Step:
    """One training step: forward, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def images(batch: int, channels: int = 3) -> Tensor:
    """Random pictures, channels-last."""
    x = Rng(0).normal((batch, channels, 32, 32), device=DEVICE)
    return x.contiguous(memory_format=LAST)


def table_of_kernels(step: Step, rows: int = 25) -> str:
    """Where a step's device time goes."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(3):
            step()
        torch.cuda.synchronize()
    return str(
        profiler.key_averages().table(
            sort_by="self_cuda_time_total", row_limit=rows, max_name_column_width=70
        )
    )


def device_milliseconds(step: Step) -> float:
    """Time that a step keeps the device busy; the rest of `milliseconds` it waits for the host."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    return float(sum(event.self_device_time_total for event in profiler.key_averages()) / 1e3)
