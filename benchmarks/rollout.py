"""The speed of rollouts and of training on video: `python benchmarks/rollout.py --out FILE.json`.

The network is `VideoTransformer(3, 3, patch=8, width=384, depth=9, heads=6, window=16)`, 34.1 M
parameters, on frames of 3 x 64 x 64, in bfloat16 autocast. What it is compared with are figures of
the released code, buoyancy99/diffusion-forcing v1.5, 33 M parameters, 100 steps, fp16, window 16,
measured on an H100: 3.0 s a new frame at batch 1, 1.25 s at batch 16 (each for the whole batch),
502 frames a second in training (batch 8, clips of 16 frames).

(a) seconds per new frame at 100 steps, batch 1 and 16: eager; the making of a frame as one CUDA
    graph, of the network as it is, and compiled; if asked for, the compiled network's calls as CUDA
    graphs, one by one,
(b) training frames per second on clips of 16 frames, batch 8 and 64, compiled as CUDA graphs,
(c) peak memory and token-forwards of rollouts of 200 and 2,000 frames, in one step.

With `--run RUN` (a) is of the denoiser of a run of video, at `--steps` steps, under actions.
"""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    Preconditioned,
    Rng,
    SamplingPlan,
    denoising_loss,
    load,
)
from noiseloom.nets import VideoTransformer
from noiseloom.rollouts import Finished, rollout
from noiseloom.sampling import ancestral, dpm_solver_pp_2m
from noiseloom.training.precision import compiled, in_bfloat16, networks

RELEASED = {"frame, batch 1": 3.0, "frame, batch 16": 1.25, "training": 502.0}
"""Seconds per frame, and frames per second, of the released code on an H100."""

MODES = ("eager", "frame graphs", "frame graphs, compiled", "network graphs, compiled")


class Size:
    """What is measured: the published size, or one that a CPU can do in a minute."""

    def __init__(
        self, small: bool, run: str | None = None, steps: int | None = None, sampler: str = "ddim"
    ) -> None:
        self.solver = ancestral() if sampler == "ddim" else dpm_solver_pp_2m()
        self.frame, self.actions, self.run = (3, 16, 16) if small else (3, 64, 64), 0, run
        self.network = {"width": 32, "depth": 2, "heads": 2} if small else {}
        self.steps = 3 if small else 100
        self.frames = 3 if small else 8
        self.batches = (1, 2) if small else (1, 16)
        self.clips = (2, 4) if small else (8, 64)
        self.lengths = (5, 20) if small else (200, 2_000)
        if run is not None:
            facts = load(run, device="cpu").facts
            self.frame, self.actions = tuple(facts["shape"]), facts["actions"]
        self.steps = steps or self.steps


def build(size: Size, device: torch.device) -> Preconditioned:
    """The denoiser, with random weights: of zeros a network predicts nothing."""
    options = {"width": 384, "depth": 9, "heads": 6, **size.network}
    with Rng(0).torch():
        network = VideoTransformer(3, 3, patch=8, window=16, **options)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.02)
    return Preconditioned(network.to(device), Cosine(), target="v")


def frames(
    denoiser: nn.Module, size: Size, batch: int, steps: int, graph: bool = False
) -> Iterator[Finished]:
    """New frames without end, from nothing; under actions where there are any."""
    device = next(denoiser.parameters()).device
    (network,) = networks(denoiser)
    given = {"action": torch.zeros(batch, 1, size.actions, device=device)} if size.actions else None
    return rollout(
        denoiser,
        GaussianDiffusion(Cosine()),
        SamplingPlan.uniform(steps),
        torch.empty(batch, 0, *size.frame, device=device),
        memory=network.memory,
        cond=given,
        rng=Rng(0),
        solver=size.solver,
        graph=graph,
    )


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of a call after which the device is done."""
    times = []
    for _ in range(repeats):
        synchronise(device)
        begin = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def drawing(size: Size, device: torch.device, modes: Sequence[str]) -> Iterator[dict[str, object]]:
    """(a) After each mode and batch, all that is known of seconds per frame."""
    denoiser = load(size.run, device=device).denoiser if size.run else build(size, device)
    denoiser.eval().requires_grad_(False)
    found: dict[str, object] = {}
    for mode, batch in itertools.product(modes, size.batches):
        name = f"{mode}, batch {batch}"
        if "compiled" in mode:
            running = compiled(denoiser, graphs=mode.startswith("network"))
        else:
            running = in_bfloat16(networks(denoiser) if device.type == "cuda" else [], device)
        graph = mode.startswith("frame graphs") and device.type == "cuda"
        try:
            with running:
                steps = frames(denoiser, size, batch, size.steps, graph)
                begin = time.perf_counter()
                # Compiling; a frame of the form that stays; its recording; a replay.
                for _ in range(4):
                    next(steps)
                synchronise(device)
                found[f"{name}, start"] = time.perf_counter() - begin
                each = seconds(partial(next, steps), device, 3 if mode == "eager" else size.frames)
            found[name] = each
            found[f"{name}, ms per call"] = each / (size.steps + 1) * 1e3
        except RuntimeError as error:  # a recording asks most of the machine: the rest still counts
            found[f"{name}, fails"] = str(error)
        yield found


def training(size: Size, device: torch.device) -> Iterator[dict[str, object]]:
    """(b) After each batch size, all that is known of frames per second."""
    model, diffusion = build(size, device).train(), GaussianDiffusion(Cosine())
    gpu = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    found: dict[str, object] = {}
    for batch in size.clips:
        clips = Rng(1).normal((batch, 16, *size.frame), device=device)
        rng = Rng(2).samples(batch, device=device)

        def step(clips: Tensor = clips, rng: Rng = rng) -> None:
            t = rng.fold("time").uniform(clips.shape[:2], device=device)
            denoising_loss(model, diffusion, clips, t, None, rng).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        with in_bfloat16([model.network] if gpu else [], device):
            if gpu:
                model.network.compile(dynamic=False, mode="reduce-overhead")
            begin = time.perf_counter()
            for _ in range(4):
                step()
            synchronise(device)
            found[f"batch {batch}, start"] = time.perf_counter() - begin

            def block(step: Callable[[], None] = step) -> None:
                for _ in range(5 if gpu else 1):
                    step()

            each = seconds(block, device, 7 if gpu else 3) / (5 if gpu else 1)
            model.network._compiled_call_impl = None
        found[f"batch {batch}"] = batch * 16 / each
        yield found


def memory(size: Size, device: torch.device, steps: int = 1) -> dict[str, object]:
    """(c) What a long rollout holds at most, and how many tokens the network reads."""
    denoiser = build(size, device).eval().requires_grad_(False)
    tokens: list[int] = []
    denoiser.network.register_forward_pre_hook(lambda _, args: tokens.append(args[0].shape[1]))
    found: dict[str, object] = {}
    gpu = device.type == "cuda"
    with in_bfloat16([denoiser.network] if gpu else [], device):
        for graph, length in itertools.product((False, True) if gpu else (False,), size.lengths):
            tokens.clear()
            if gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            made = itertools.islice(frames(denoiser, size, 1, steps, graph), length)
            last = deque(made, maxlen=1)[0]
            name = f"{length} frames{', frame graphs' if graph else ''}"
            if gpu:
                found[f"{name}, peak bytes"] = torch.cuda.max_memory_allocated()
            if not graph:  # a replay calls no network: there is nothing to count
                found[f"{name}, token-forwards"] = sum(tokens)
                found[f"{name}, expected"] = length * (steps + 1)
            blocks = last.carry["cache"]["tokens"]
            held = sum(leaf.nbytes for block in blocks for leaf in block.values())
            found[f"{name}, bytes of the cache"] = held
            del last, made, blocks  # or the next rollout would be charged with this one's cache
    return found


def table(results: dict[str, dict[str, float]], size: Size, small: bool) -> str:
    """The figures; of the published size with their ratios to the released code's."""
    lines = []
    for mode, batch in itertools.product(MODES, size.batches):
        if each := results.get("a", {}).get(f"{mode}, batch {batch}"):
            there = RELEASED.get(f"frame, batch {batch}")
            beside = "" if small or there is None else f"   {there / each:6.1f} times {there} s"
            lines.append(f"a  {f'{mode}, batch {batch}':36s} {each:9.4f} s a frame{beside}")
    for batch in size.clips:
        if rate := results.get("b", {}).get(f"batch {batch}"):
            there = RELEASED["training"]
            beside = "" if small else f"   {rate / there:6.2f} times {there:.0f} (batch 8)"
            lines.append(f"b  {f'training, batch {batch}':36s} {rate:9.0f} frames/s{beside}")
    for name, value in results.get("c", {}).items():
        lines.append(f"c  {name:36s} {value:15,d}")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, keep what is known after each part, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="for a CPU: says nothing of speed")
    parser.add_argument("--only", default="abc", help="letters of the parts to run")
    parser.add_argument("--run", help="a run of video, whose denoiser (a) is of")
    parser.add_argument("--steps", type=int, help="of a frame; by default 100")
    parser.add_argument("--sampler", default="ddim", choices=("ddim", "dpm++2m"), help="of (a)")
    parser.add_argument("--modes", nargs="*", default=MODES[:3], choices=MODES, help="of (a)")
    args = parser.parse_args()
    if not args.only or set(args.only) - set("abc"):
        parser.error(f"--only takes letters of abc, got {args.only!r}")
    if args.run and args.only != "a":
        parser.error("--run is of part (a): add --only a")
    device, size = torch.device(args.device), Size(args.small, args.run, args.steps, args.sampler)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    gpu = device.type == "cuda"
    results: dict[str, object] = {
        "device": torch.cuda.get_device_name() if gpu else platform.machine(),
        "torch": torch.__version__,
        "commit": commit or None,
        "small": args.small,
        "run": args.run,
        "steps": size.steps,
        "sampler": args.sampler,
        "released": RELEASED,
    }
    parts: dict[str, Callable[[], Iterator[dict[str, object]]]] = {
        "a": lambda: drawing(size, device, args.modes),
        "b": lambda: training(size, device),
        "c": lambda: iter([memory(size, device)]),
    }
    for letter, run in parts.items():
        if letter not in args.only:
            continue
        began = time.perf_counter()
        for found in run():
            results[letter] = found
            args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{letter}: {time.perf_counter() - began:.0f} s", flush=True)
    print(table(results, size, args.small))


if __name__ == "__main__":
    main()
