"""RDKit, where it is installed, and what it says of how good a molecule is as a drug.

    y = QED (10 - SA) / 9

in [0, 1]: QED is the quantitative estimate of drug-likeness (G. Bickerton et al., 2012, Nature
Chemistry 4), SA the synthetic accessibility, 1 (easy) to 10 (P. Ertl, A. Schuffenhauer, 2009,
Journal of Cheminformatics 1). The label is that of L. Klarner et al., 2024, arXiv 2407.11942,
without its factor of docking. Both numbers are computed by RDKit's own programs; SA's is one of its
contributions, which come with its packages, with a table of fragments that it reads itself.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

__all__ = ["SCORES", "check_chemistry", "chemistry", "scores"]

SCORES = ("qed_sa", "qed", "sa")
"""What `scores` says of a molecule, in this order."""


def chemistry() -> Any:  # noqa: ANN401
    """RDKit's module `Chem`.

    Raises:
        ImportError: the extra `chem` is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError as error:
        raise ImportError("molecules need RDKit: pip install 'noiseloom[chem]'") from error
    return Chem


def check_chemistry() -> None:
    """Raise ImportError where molecules cannot be read or scored."""
    _sa_scorer()


def scores(molecules: Sequence[Any]) -> Tensor:
    """Of RDKit's molecules, sanitised: y, QED and SA, float64, shape (N, 3).

    Raises:
        ImportError: RDKit, or its contribution SA_Score, is not installed.
    """
    chemistry()
    from rdkit import rdBase
    from rdkit.Chem import QED

    judge: Any = QED.qed
    sa, found = _sa_scorer(), torch.empty(len(molecules), 3, dtype=torch.float64)
    with rdBase.BlockLogs():
        for i, molecule in enumerate(molecules):
            qed, hard = float(judge(molecule)), float(sa.calculateScore(molecule))
            found[i] = torch.tensor([qed * (10 - hard) / 9, qed, hard], dtype=torch.float64)
    return found


@lru_cache(maxsize=1)
def _sa_scorer() -> ModuleType:
    """RDKit's program for SA, from the folder of its contributions."""
    chemistry()
    from rdkit import RDConfig

    path = Path(RDConfig.RDContribDir, "SA_Score", "sascorer.py")
    if not path.is_file():
        raise ImportError(
            f"this RDKit lacks its contribution SA_Score ({path} is not there), by which molecules "
            "are labelled: install the one of the package index, pip install 'noiseloom[chem]'"
        )
    spec = importlib.util.spec_from_file_location("noiseloom_sa_score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of RDKit's own names
        spec.loader.exec_module(module)
    return module
