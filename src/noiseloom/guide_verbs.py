"""The options of the verb `guide`."""

from dataclasses import dataclass
from typing import Literal

from noiseloom.verbs import Answer

__all__ = ["MakeGuide"]


@dataclass(frozen=True)
class MakeGuide(Answer):
    """The making; --method may name several, separated by commas.

    Attributes:
        labels: structures with labels: a table, .csv, .tsv or .parquet, with the run's columns or a
            column of sequences, and one or more of numbers. context-benzenoids knows its own, and
            its context, by the words train, validation, test, others and all; context-molecules
            those of a file of SMILES, of its better half with :high, :validation or :test after it.
        columns: those of the labels, separated by commas; by default the only one of numbers.
        context: structures without labels, among which the guide is to know its limits: a table, or
            what the run is trained on.
        shifted: structures with labels of another domain, to judge and to choose by alone.
        test: others of these, never chosen by: how a choice does where it has seen no label.
        seeds: guides of every method, from --seed on.
        configurations: of every method's grid, to choose from; 0 trains what the options say.
        select: choose by held-out labels (in-domain) or by those of --shifted.
        trials: folder of the guides that are compared for a choice, by default selection in --out;
            another choice among the same ones finds them there.
        jobs: guides trained at a time, each in a process of its own; they share the GPUs.
        out: folder of the guide, a new one or one that was begun; where there are several, of their
            folders; by default RUN/guides/METHOD-SEED.
        force: replace guides that are there, each as its successor is finished; trials only where
            they lie in --out.
    """

    labels: str | None = None
    columns: str | None = None
    context: str | None = None
    shifted: str | None = None
    test: str | None = None
    seeds: int = 1
    configurations: int = 0
    select: Literal["in-domain", "shifted"] = "in-domain"
    trials: str | None = None
    jobs: int = 1
    out: str | None = None
    force: bool = False
