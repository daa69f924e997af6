"""Plan in a simulator of your own: record it, train on the file, and drive by plans made anew.

    python examples/own_simulator.py record cart.npz
    noiseloom train forcing-trajectories --data cart.npz --out runs/cart --rewards --context 1 \
        --network bidirectional --known-ends 0.5 --horizon 40 --steps 1000
    python examples/own_simulator.py drive runs/cart

A cart on a line is pushed by a force and slowed by friction; where it earns something is at x = 1.
The model learns how the cart was driven to random places, and is never told of a goal. Then it is
led there, by the rewards that it models, by the place alone, or by a known end. `planner` gives the
policy; what remains yours is the loop. Where the latency counts, look at `policy.latency`.
"""

import sys

import numpy as np
import torch

import noiseloom
from noiseloom import Rng

GOAL = 1.0
WAYS = {
    "nothing": {},
    "rewards": {"goal_guidance": "gradient", "seek": "rewards", "goal_scale": 100.0},
    "the place": {"goal_guidance": "gradient", "goal_scale": 100.0},
    "a known end": {"deadline": 0.5},
}


def push(state: torch.Tensor, force: torch.Tensor) -> torch.Tensor:
    """One step of the simulator: places and velocities (n, 2), and forces (n, 1) in [-1, 1]."""
    place, velocity = state.chunk(2, -1)
    velocity = 0.9 * velocity + 0.1 * force.clamp(-1, 1)
    return torch.cat((place + 0.1 * velocity, velocity), -1)


def earned(state: torch.Tensor) -> torch.Tensor:
    """What a step that ends in a state earns, (n,)."""
    return (-4 * (state[:, 0] - GOAL).square()).exp()


def record(path: str, carts: int = 200, steps: int = 300) -> None:
    """Drive carts to places in [-2, 2], a new one after 50 steps, and write what was seen."""
    rng, state = Rng(0), torch.zeros(carts, 2)
    seen, done, rewards = [], [], []
    for step in range(steps):
        aim = 4 * rng.fold("aim", step // 50).uniform((carts, 1)) - 2
        noise = 0.1 * rng.fold("noise", step).normal((carts, 1))
        force = (3 * (aim - state[:, :1]) - 2 * state[:, 1:] + noise).clamp(-1, 1)
        seen.append(state)
        done.append(force)
        state = push(state, force)
        rewards.append(earned(state))
    columns = {"observations": seen, "actions": done, "rewards": rewards}
    np.savez(path, **{name: torch.stack(rows, 1).numpy() for name, rows in columns.items()})


def drive(path: str, carts: int = 20, steps: int = 80) -> None:
    """Drive carts from random places, led in each of the ways, and say how near they come."""
    run = noiseloom.load(path, device="cpu")
    starts = 4 * Rng(1).uniform((carts, 1)) - 2
    goals = torch.tensor([[GOAL, 0.0]]).expand(carts, 2)  # NaN for what may be anything
    print("led by        earned   away at the end   ms a plan   ms a step")
    for name, options in WAYS.items():
        led = run.with_options(**options)
        policy = led.recipe.planner(led.samples)  # a new one for each episode
        state, total = torch.cat((starts, torch.zeros(carts, 1)), 1), torch.zeros(carts)
        for step in range(steps):
            state = push(state, policy(step, state, goals))
            total += earned(state)
        away = float((state[:, 0] - GOAL).abs().mean())
        told = policy.latency
        print(
            f"{name:12s} {float(total.mean()):7.1f} {away:17.2f} {told['ms_per_plan']:11.0f} "
            f"{told['ms_per_step']:11.1f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "drive"):
        sys.exit("usage: python examples/own_simulator.py record FILE.npz, or drive RUN")
    try:
        (record if sys.argv[1] == "record" else drive)(sys.argv[2])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
