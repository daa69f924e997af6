"""The training loop: a generator that owns the updates, and nothing else.

Everything that happens at an update is a function of the options and of its number: which samples
it sees (`sample_order`), what is drawn for them (one key per sample of the global batch), the
learning rate. So a run that was killed goes on, bit for bit on the CPU, from nothing but tensors
and the number of updates made, and two processes that each take their slice of the batch make the
updates that one would make.

The loop prints nothing; `show` does. Losses stay on the device and are fetched every 50 updates
(every update on a CPU, where it is free) and before each checkpoint.
"""

import contextlib
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from noiseloom.interrupts import deferred
from noiseloom.rng import Rng
from noiseloom.training import checkpoint
from noiseloom.training.batches import Batches, Data, Part
from noiseloom.training.ema import Average, exponential, power_function
from noiseloom.training.memory import forget_peak, peak_gigabytes
from noiseloom.training.optimizer import LeftOut, adamw, clipped, guarded_step
from noiseloom.training.options import Training
from noiseloom.training.precision import in_bfloat16, networks, without_cudnn_attention
from noiseloom.training.processes import connect
from noiseloom.training.tracking import Metrics, Progress, Record, Reporting, Tracker

__all__ = ["Loss", "train"]

Loss: TypeAlias = Callable[[nn.Module, dict[str, Tensor], Rng, Tensor], Tensor]
"""`loss(model, batch, rng, rows)`: one number per sample, shape (b,).

`rng` has one key per sample, a function of the seed, the update and the sample's place in the
global batch; `rows`, int64 of shape (b,) on the CPU, are these places.
"""


def train(
    model: nn.Module,
    loss: Loss,
    data: Data,
    options: Training,
    out: Path,
    *,
    resume: bool = False,
    trackers: Sequence[Tracker] = (),
) -> Iterator[Progress]:
    """Train a model; iterate to make it happen.

    The model is moved to the GPU if there is one. Sub-modules called `network` (the bare network in
    a denoiser), or else the whole model, are what is compiled and runs in bfloat16; all around them
    stays in float32. Started by `torchrun` or `accelerate launch --multi_gpu`, each process takes
    its slice of every batch. Buffers are synchronised at the start only.

    What PyTorch draws from its own generators (`nn.Dropout`) is seeded by the update, and by the
    process and the part of the batch: it resumes exactly, but is another draw for another number of
    processes. What is drawn from `rng` is the same for any.

    Args:
        model: an initialised model.
        loss: one number per sample; their mean over the global batch is minimised.
        data: the samples.
        options: how.
        out: the run's folder: `metrics.jsonl`, `state/`, `model.safetensors`, `ema.safetensors`.
        resume: go on from the last checkpoint in `out` (from the start if there is none yet).
        trackers: further places for the records.

    Yields:
        Where the run is, after each fetch of the losses.

    Raises:
        FileExistsError: `out` holds a run and `resume` is off.
        ValueError: the batch cannot be divided; the data set is empty; the checkpoint is damaged or
            of another model, seed or batch size; the loss has a wrong shape or is not finite.
        RuntimeError: the processes are not connected.
        OSError: no space left; the last checkpoint is intact.
    """
    if not resume and any((out / name).exists() for name in ("metrics.jsonl", "state")):
        raise FileExistsError(f"{out} holds a run: continue it with --resume, or choose another")
    accelerator = connect()
    batches = Batches(data, options, accelerator)
    accelerator.wait_for_everyone()  # all have looked at `out` before one writes there
    return _Run(model, loss, batches, options, out, accelerator, tuple(trackers)).updates()


class _Objective(nn.Module):
    """The loss as a module: wrapped by data parallelism, it may call the model as it likes."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, part: Part) -> Tensor:
        each = self.loss(self.model, part.batch, part.rng, part.rows)
        if each.shape != part.rows.shape:
            raise ValueError(
                f"a loss must return one number per sample, shape {tuple(part.rows.shape)}, "
                f"got {tuple(each.shape)}"
            )
        return each.mean()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Batches,
        options: Training,
        out: Path,
        accelerator: Any,  # noqa: ANN401  (accelerate has no types)
        trackers: tuple[Tracker, ...],
    ) -> None:
        self.model, self.batches, self.options, self.out = model, batches, options, out
        self.accelerator, self.trackers = accelerator, trackers
        self.device: torch.device = accelerator.device
        self.key = Rng(options.seed).fold("train")
        gpu = self.device.type == "cuda"
        model.to(self.device).train()
        for p in model.parameters():
            if p.ndim == 4:
                # `contiguous` would leave the strides of a 1 x 1 kernel, whose gradient has others.
                laid_out = torch.empty_like(p, memory_format=torch.channels_last)
                p.data = laid_out.copy_(p.detach())
        self.networks = networks(model)
        self.compile = gpu if options.compile is None else options.compile
        self.bfloat16 = gpu if options.precision == "auto" else options.precision == "bfloat16"
        self.optimizer, self.left_out = adamw(model, options), LeftOut()
        self.averages = {"ema": Average(model, exponential(options.ema_decay))}
        if options.post_hoc_ema:
            for width in (0.05, 0.10):
                self.averages[f"power-{width:.3f}"] = Average(model, power_function(width))
        self.start = self._load()
        self.objective = accelerator.prepare_model(_Objective(model, loss))
        if isinstance(self.objective, DistributedDataParallel):
            # The first pass of self-conditioning may be empty on one process: no collectives in
            # it. PyTorch has renamed the argument for this; the attribute is the same in all.
            self.objective.broadcast_buffers = False

    def updates(self) -> Iterator[Progress]:
        options, main = self.options, self.accelerator.is_main_process
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        resident = self.device.type == "cpu" and forget_peak()
        every = 1 if self.device.type == "cpu" else 50
        with contextlib.ExitStack() as stack:
            sinks: list[Tracker] = []
            if main:
                self.out.mkdir(parents=True, exist_ok=True)
                metrics = Metrics(self.out / "metrics.jsonl", self.start)
                sinks = [metrics, *self.trackers]
                for sink in sinks:
                    stack.callback(sink.close)
            earlier = metrics.seconds if main else 0.0
            stack.enter_context(without_cudnn_attention())
            stack.enter_context(in_bfloat16(self.networks if self.bfloat16 else [], self.device))
            if self.compile:
                # Few batch sizes, each many times: one graph for each beats a symbolic one. As CUDA
                # graphs they do not wait for the host; these know no other processes, and a
                # gradient that is to be added to must not lie in memory that is replayed.
                alone = self.accelerator.num_processes == options.accumulate == 1
                graphs = self.device.type == "cuda" and alone
                for network in self.networks:
                    network.compile(dynamic=False, mode="reduce-overhead" if graphs else None)
                stack.callback(self._forget)

            pending: list[tuple[Record, Tensor, Tensor]] = []
            began = time.perf_counter()
            window: deque[tuple[int, float]] = deque()
            # With several processes no one can stop alone: they would wait for each other.
            single = self.accelerator.num_processes == 1
            for step in range(self.start + 1, options.steps + 1):
                # Not beyond an update: between two of them others have their turn, and signals too.
                with contextlib.ExitStack() as held:
                    heard = held.enter_context(deferred()) if single else []
                    loss, norm = self._update(step)
                    record = {"step": step, "learning_rate": options.rate(step)}
                    record["seconds"] = round(earlier + time.perf_counter() - began, 3)
                    pending.append((record, loss, norm))
                    save = step % options.checkpoint_every == 0 or step == options.steps
                    if save or heard or step % every == 0:
                        records = self._fetch(pending)
                        pending.clear()
                        if (save or heard) and resident:
                            records[-1]["peak_gigabytes"] = peak_gigabytes()
                        for sink in sinks:
                            sink.write(records)
                    if (save or heard) and not pending and main:
                        metrics.sync()
                        self._save(step)
                if pending:
                    continue
                yield _progress(records, options, window, (self.start, began))
                self.model.train()  # whoever is iterating may have evaluated it
            self.accelerator.wait_for_everyone()

    def _forget(self) -> None:
        """Free what compiled networks hold, gigabytes of recorded memory: this was not the last."""
        for network in self.networks:
            network._compiled_call_impl = None
        torch.compiler.reset()

    def _update(self, step: int) -> tuple[Tensor, Tensor]:
        """One update; returns the local loss and the norm of the gradient, on the device."""
        options, accelerator = self.options, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(step)
        loss = torch.zeros((), device=self.device)
        for i in range(options.accumulate):
            last = i == options.accumulate - 1
            wait = contextlib.nullcontext() if last else accelerator.no_sync(self.objective)
            torchs = self.key.fold("torch", step).fold("part", i)
            torchs = torchs.fold("process", accelerator.process_index)
            with wait, torchs.torch(self.device):
                mean = self.objective(self.batches.part(step, i)) / options.accumulate
                mean.backward()
            loss += mean.detach()
        norm = clipped(self.model, options.clip)
        guarded_step(self.optimizer, norm)
        for average in self.averages.values():
            average.update(step)
        return loss, norm

    def _fetch(self, pending: list[tuple[Record, Tensor, Tensor]]) -> list[Record]:
        """Bring the numbers of some updates to the host: the one wait for the device."""
        numbers = torch.stack([torch.stack((loss, norm)) for _, loss, norm in pending])
        rows = self.accelerator.reduce(numbers, reduction="mean").tolist()
        records = []
        for (record, *_), (loss, norm) in zip(pending, rows, strict=True):
            values = {**record, "loss": loss, "grad_norm": norm}
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.left_out.count(int(record["step"]), loss, norm)
                values |= {"grad_norm": 0.0, "left_out": 1.0}
            names = ("step", "loss", "learning_rate", "grad_norm", "seconds", "left_out")
            records.append({name: values[name] for name in names if name in values})
        if isinstance(self.model, Reporting) and (said := self.model.report()):
            own = self.accelerator.reduce(torch.stack(list(said.values())), reduction="mean")
            records[-1] |= dict(zip(said, own.tolist(), strict=True))
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device)
            records[-1]["gpu_gigabytes"] = round(memory / 1e9, 3)
        return records

    def _save(self, step: int) -> None:
        parts = {
            "model": self.model.state_dict(),
            "optimizer": checkpoint.moments(self.optimizer),
        }
        parts |= {name: average.state_dict() for name, average in self.averages.items()}
        own = {f.name for f in fields(Training)}
        facts = {
            "options": {k: v for k, v in asdict(self.options).items() if k in own},
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        path = checkpoint.save(self.out / "state", step, parts, facts)
        checkpoint.publish(path, self.out)

    def _load(self) -> int:
        """Take up the last checkpoint, if there is one; returns the number of updates made."""
        path = checkpoint.newest(self.out / "state")
        if path is None:
            return 0
        parts, facts = checkpoint.load(path)
        try:
            step, threads = int(facts["step"]), int(facts["threads"])
            told = {name: facts["options"][name] for name in ("seed", "batch_size")}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(checkpoint.damaged(path / "state.json", error)) from error
        for name, there in told.items():
            here = getattr(self.options, name)
            if there != here:
                raise ValueError(
                    f"{path} was made with {name} {there}, not {here}: the order of the samples "
                    "would change in the middle of the run"
                )
        if threads != torch.get_num_threads():
            warnings.warn(
                f"resuming with {torch.get_num_threads()} threads a run of {threads}: "
                "losses will agree to rounding only",
                stacklevel=4,
            )
        for name in ("model", "optimizer", *self.averages):
            if name not in parts:
                raise ValueError(f"{path} has no {name}.safetensors: use the options of the run")
        checkpoint.check(parts["model"], self.model, path / "model.safetensors")
        self.model.load_state_dict(parts["model"])
        for name, average in self.averages.items():
            wrong = checkpoint.difference(parts[name], average.state_dict())
            if wrong:  # the weights fit: it is no other model's
                raise ValueError(checkpoint.damaged(path / f"{name}.safetensors", wrong))
            average.load_state_dict(parts[name])
        try:
            checkpoint.load_moments(self.optimizer, parts["optimizer"])
        except ValueError as error:
            raise ValueError(checkpoint.damaged(path / "optimizer.safetensors", error)) from error
        if self.accelerator.is_main_process:
            checkpoint.publish(path, self.out)
        return step


def _progress(
    records: list[Record],
    options: Training,
    window: deque[tuple[int, float]],
    start: tuple[int, float],
) -> Progress:
    step, now, last = int(records[-1]["step"]), time.perf_counter(), records[-1]
    while len(window) > 1 and window[1][1] < now - 20:
        window.popleft()
    # The start counts only as long as there is nothing else: compilation follows it.
    first, since = window[0] if window else start
    window.append((step, now))
    rate = (step - first) / (now - since)
    return Progress(
        step=step,
        steps=options.steps,
        loss=sum(record["loss"] for record in records) / len(records),
        learning_rate=last["learning_rate"],
        grad_norm=last["grad_norm"],
        samples_per_second=rate * options.batch_size,
        seconds_left=(options.steps - step) / rate,
    )
