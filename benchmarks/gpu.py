"""Speed beside the peers, on one GPU, in one process: `python benchmarks/gpu.py --out FILE.json`.

Needs the extra `bench` (diffusers, bit-diffusion). Four comparisons, each a ratio:

(a) the sampling loop over the bare network calls it makes,
(b) a self-conditioned training step over a plain one,
(c) training throughput over diffusers' UNet2DModel in its CIFAR-10 DDPM configuration,
(d) training throughput over lucidrains/bit-diffusion, both with self-conditioning.

Peers run in bfloat16 autocast and channels-last, eager and compiled; the faster form counts. Every
number is the median over repeats of a block of steps, timed with device events.
"""

import argparse
import json
import platform
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from noiseloom import (
    Cosine,
    GaussianDiffusion,
    Preconditioned,
    Rng,
    SamplingPlan,
    SelfConditioned,
    ancestral,
    denoising_loss,
    sample,
)
from noiseloom.nets import UNet
from noiseloom.training.precision import in_bfloat16

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


def sampling_overhead(batch: int = 64, rows: int = 30) -> dict[str, float]:
    """(a) The loop over the bare calls."""
    network = UNet.ddpm(24, 24).to(DEVICE, memory_format=LAST).eval().requires_grad_(False)
    schedule = Cosine()
    denoiser, diffusion = Preconditioned(network, schedule), GaussianDiffusion(schedule)
    network.compile(dynamic=False)
    x, log_snr = images(batch, 24), torch.zeros(batch, device=DEVICE)
    plan = SamplingPlan.uniform(rows)
    result = {}
    with in_bfloat16([network], DEVICE):

        def bare() -> None:
            with torch.no_grad():
                for _ in range(rows):
                    network(x, log_snr, None)

        def loop(stochasticity: float, rng: Rng) -> Step:
            solver = ancestral(stochasticity)

            def run() -> None:
                for _ in sample(denoiser, diffusion, plan, x, rng=rng, solver=solver):
                    pass

            return run

        kinds = {
            "ddim, one seed": loop(0.0, Rng(0)),
            "ddim, seed per sample": loop(0.0, Rng(0).samples(batch, device=DEVICE)),
            "ddpm, one seed": loop(1.0, Rng(0)),
            "ddpm, seed per sample": loop(1.0, Rng(0).samples(batch, device=DEVICE)),
        }
        settings = {"warmup": 2, "block": 2, "repeats": 9}
        for name, run in kinds.items():
            base = milliseconds(bare, **settings)
            result[name] = milliseconds(run, **settings) / base
        result["bare ms per row"] = milliseconds(bare, **settings) / rows
    return result


def bit_loss(model: nn.Module, batch: int, rate: float) -> Callable[[], Tensor]:
    """Ours, on analog bits."""
    diffusion, clean = GaussianDiffusion(Cosine()), images(batch, 24).sign()
    rng = Rng(0).samples(batch, device=DEVICE)
    rows = torch.arange(batch)

    def loss() -> Tensor:
        t = rng.fold("time").uniform((batch,), device=DEVICE)
        each = denoising_loss(
            model, diffusion, clean, t, None, rng, rows=rows, self_conditioning=rate
        )
        return each.mean()

    return loss


def self_conditioning(batch: int = 256) -> dict[str, float]:
    """(b) A self-conditioned step over a plain one; theory 1 + 0.5 / 3 = 1.17."""
    network = UNet.ddpm(24, 24, self_conditioning=True).to(DEVICE, memory_format=LAST)
    model = SelfConditioned(Preconditioned(network, Cosine()), limit=1.0)
    network.compile(dynamic=False)
    with in_bfloat16([network], DEVICE):
        plain = milliseconds(trainer(model, bit_loss(model, batch, 0.0)))
        conditioned = milliseconds(trainer(model, bit_loss(model, batch, 0.5)))
    return {"plain ms": plain, "self-conditioned ms": conditioned, "ratio": conditioned / plain}


def beside_diffusers(batch: int = 256, profile: Path | None = None) -> dict[str, object]:
    """(c) Plain regression steps of both networks on the same pictures."""
    from diffusers import UNet2DModel

    x, y, times = images(batch), images(batch), torch.zeros(batch, device=DEVICE)

    def build_peer() -> nn.Module:
        model = UNet2DModel(
            sample_size=32,
            block_out_channels=(128, 256, 256, 256),
            layers_per_block=2,
            attention_head_dim=None,
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
        )
        return model.to(DEVICE, memory_format=LAST)

    def peer_loss(model: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            with torch.autocast("cuda", torch.bfloat16):
                output = model(x, times, return_dict=False)[0]
            return functional.mse_loss(output.float(), y)

        return loss

    def our_loss(model: nn.Module) -> Callable[[], Tensor]:
        return lambda: functional.mse_loss(model(x, times), y)

    result: dict[str, object] = {}
    peer, ours = build_peer(), UNet.ddpm(3, 3).to(DEVICE, memory_format=LAST)
    result["peer"], result["ours"] = cost(peer, x, times), cost(ours, x, times)
    speeds = {"peer eager": batch / milliseconds(trainer(peer, peer_loss(peer))) * 1e3}
    with in_bfloat16([ours], DEVICE):
        speeds["ours eager"] = batch / milliseconds(trainer(ours, our_loss(ours))) * 1e3
    peer.compile(dynamic=False)
    speeds["peer compiled"] = batch / milliseconds(trainer(peer, peer_loss(peer))) * 1e3
    ours.compile(dynamic=False)
    with in_bfloat16([ours], DEVICE):
        step = trainer(ours, our_loss(ours))
        speeds["ours compiled"] = batch / milliseconds(step) * 1e3
        if profile is not None:
            profile.write_text(table_of_kernels(step))
            with profile.open("a") as file:
                file.write("\n\npeer\n" + table_of_kernels(trainer(peer, peer_loss(peer))))
    best = max(speeds["peer eager"], speeds["peer compiled"])
    return {**result, "images per second": speeds, "ratio": speeds["ours compiled"] / best}


def beside_lucidrains(batch: int = 256) -> dict[str, object]:
    """(d) Training steps with self-conditioning on 8-bit pictures."""
    from bit_diffusion.bit_diffusion import BitDiffusion, Unet

    result: dict[str, object] = {}
    network = Unet(64).to(DEVICE, memory_format=LAST)
    peer = BitDiffusion(network, image_size=32).to(DEVICE)
    ours = UNet(
        24,
        24,
        width=64,
        multipliers=(1, 2, 5, 8),
        blocks=1,
        attention=(False, False, False, True),
        self_conditioning=True,
    ).to(DEVICE, memory_format=LAST)
    x, times = images(batch, 24), torch.zeros(batch, device=DEVICE)
    result["peer"], result["ours"] = cost(network, x, times), cost(ours, x, times)
    pixels = Rng(0).uniform((batch, 3, 32, 32), device=DEVICE)

    def peer_loss() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return peer(pixels)

    step = trainer(peer, peer_loss)
    settings = {"block": 20, "repeats": 9}  # its coin is tossed once per batch
    speeds = {"peer eager": batch / milliseconds(step, **settings) * 1e3}
    model = SelfConditioned(Preconditioned(ours, Cosine()), limit=1.0)
    ours.compile(dynamic=False)
    with in_bfloat16([ours], DEVICE):
        ours_step = trainer(model, bit_loss(model, batch, 0.5))
        speeds["ours compiled"] = batch / milliseconds(ours_step, **settings) * 1e3
    try:
        network.compile(dynamic=False)
        speeds["peer compiled"] = batch / milliseconds(step, **settings) * 1e3
    except Exception as error:
        result["peer compiled fails"] = str(error).splitlines()[0][:200]
    best = max(value for name, value in speeds.items() if name.startswith("peer"))
    return {**result, "images per second": speeds, "ratio": speeds["ours compiled"] / best}


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


def main() -> None:
    """Run what is asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="abcd", help="letters of the comparisons to run")
    parser.add_argument("--profile", type=Path, help="write tables of kernels for (c)")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    runs: dict[str, Callable[[], object]] = {
        "c": lambda: beside_diffusers(profile=args.profile),
        "a": sampling_overhead,
        "b": self_conditioning,
        "d": beside_lucidrains,
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    results: dict[str, object] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or None,
    }
    for letter, run in runs.items():
        if letter in args.only:
            results[letter] = run()
            print(letter, json.dumps(results[letter], indent=1), flush=True)
            args.out.write_text(json.dumps(results, indent=1) + "\n")
            torch._dynamo.reset()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
