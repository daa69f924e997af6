"""Exchange rates, forecast with Diffusion Forcing on the paper's own data and by its protocol.

8 columns, 30 steps, 5 rolling windows, 100 paths, CRPS_sum: published 0.003 +- 0.001 (B. Chen et
al., 2024, arXiv 2407.01392, Table 3) and 0.006 +- 0.001 for TimeGrad. Ours, five seeds of 400 steps
(a minute on a core): 0.0046 +- 0.0002. So has a network without training, whose tokens make it a
random walk, and such a walk without a network has 0.0047 +- 0.0001: nothing is foreseen here
(docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from noiseloom.recipes.forcing_series import ForcingSeries

__all__ = ["ForcingExchange"]


@dataclass(frozen=True)
class ForcingExchange(ForcingSeries):
    """The paper's exchange rates: its horizon, windows and number of paths."""

    name: ClassVar[str] = "forcing-exchange"
    summary: ClassVar[str] = "forecasts of eight exchange rates, by the paper's protocol"

    horizon: int = 30
    network: Literal["causal", "recurrent", "bidirectional"] = "recurrent"
    state: Literal["values", "differences"] = "differences"
    steps: int = 400  # more fit the 6,000 days, not the next one (docs/results.md)
