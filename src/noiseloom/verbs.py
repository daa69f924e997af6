"""The verbs of the command line and the options of their own."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "SOURCES",
    "VERBS",
    "Answer",
    "Compare",
    "Demo",
    "DoomSource",
    "Evaluate",
    "MakePrior",
    "MazeSource",
    "Recipes",
    "Record",
    "Sample",
    "Stream",
    "Train",
    "Verb",
]


class Verb(NamedTuple):
    """What the help says.

    Attributes:
        usage: how it is typed.
        summary: what it does.
        positional: arguments without option.
    """

    usage: str
    summary: str
    positional: tuple[str, ...] = ()


VERBS = {
    "demo": Verb("demo", "train on handwritten digits, judge and draw some: two minutes"),
    "recipes": Verb("recipes", "what can be trained"),
    "train": Verb("train RECIPE|./FILE.py --out RUN", "train, judge, and write a report"),
    "sample": Verb(
        "sample RUN [-n 64] [--label CLASS]",
        "draw pictures into a PNG, forecasts or plans into a CSV, videos into a WebP",
        ("run",),
    ),
    "stream": Verb(
        "stream RUN [--prompt TEXT] [-n TOKENS]",
        "write text for as long as it is read, as it becomes certain",
        ("run",),
    ),
    "prior": Verb(
        "prior RUN [--prior KIND]", "make what draws a run's codes, or go on with it", ("run",)
    ),
    "evaluate": Verb("evaluate RUN", "judge samples beside real data", ("run",)),
    "compare": Verb(
        "compare [RECIPE] --grid NAME=A,B ... --out FOLDER",
        "train a grid of options, with one table",
    ),
    "record": Verb(
        "record maze|doom --out FILE.safetensors", "make data to train on with a simulator"
    ),
    "report": Verb("report RUN", "one page that shows a run", ("run",)),
    "push": Verb("push RUN FOLDER|hf://OWNER/NAME", "publish with a model card", ("run", "target")),
}


@dataclass(frozen=True)
class Train:
    """The run.

    Attributes:
        out: its folder, a new one, or with --resume one that was begun.
        data: path of the data, for recipes that need one.
        resume: go on with the run in --out; of its options only --steps may change.
        init_from: a run to take the first weights from; what is new starts without effect.
        config: YAML file with options, perhaps another run's recipe.yaml; options typed win.
        evaluate: judge samples at the end, and write the report.
        json: print the result as JSON.
    """

    out: str | None = None
    data: str | None = None
    resume: bool = False
    init_from: str | None = None
    config: str | None = None
    evaluate: bool = True
    json: bool = False


@dataclass(frozen=True)
class Demo:
    """The demonstration.

    Attributes:
        out: folder of the run; one that is there is continued, or shown again.
        json: print the result as JSON.
    """

    out: str = "runs/demo"
    json: bool = False


@dataclass(frozen=True)
class Recipes:
    """The list.

    Attributes:
        json: print it as JSON, with every option.
    """

    json: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer.

    Attributes:
        recipe: the file of the run's recipe, if it is one of your own.
        json: print the result as JSON.
    """

    recipe: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Sample(Answer):
    """The picture, forecasts, plans or videos; by default the run's own sampling options hold.

    Attributes:
        n: number of samples (-n); by default 64, of videos 4.
        label: their class, by name or index; by default all in turn.
        data: series that forecasts follow, trajectories that plans start from, or clips whose
            held-out frames and actions videos follow; by default those of training.
        actions: of videos, a file with one row for each frame to make, .npy or .csv, which all of
            them follow instead of recorded ones; --length is then by default that of the file.
        known: of text and sequences, a template whose gaps, written _, are filled; of tables a .csv
            file of rows with empty cells; -n is then by default 4 for each row of it.
        gap: the character that stands for a gap in --known.
        codes_from: of a model with codes, a file with one row of these for each sample, .npy or
            .csv, instead of what --codes draws; -n is then by default the number of rows.
        seed: of the draws.
        out: PNG file, for forecasts, plans and tables CSV, for text and sequences .txt, for videos
            .webp, or with their actions .safetensors; by default RUN-seedSEED with that ending.
        force: replace the file if it exists.
    """

    n: int | None = None
    label: str | None = None
    data: str | None = None
    actions: str | None = None
    codes_from: str | None = None
    known: str | None = None
    gap: str = "_"
    seed: int = 0
    out: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Stream(Answer):
    """The text, on standard output; by default the run's own sampling options hold.

    Attributes:
        prompt: what it goes on from.
        n: number of tokens (-n) after it; by default there is no end but Ctrl-C.
        slope: steps, and so calls of the network, per token: fewer are quicker, with more tokens on
            the way at a time; by default as many that half a window is.
        seed: of the draws.
    """

    prompt: str = ""
    n: int | None = None
    slope: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Evaluate(Answer):
    """The evaluation; by default the run's own sampling options hold.

    Attributes:
        data: path of the data; by default where training found it.
        seed: of the draws; by default the run's own.
        samples: how many samples to judge; by default the run's own. Of videos that Ctrl-C or
            SIGTERM interrupts the stretches there are are judged, and kept as cut short.
    """

    data: str | None = None
    seed: int | None = None
    samples: int | None = None


@dataclass(frozen=True)
class MakePrior(Answer):
    """The making; by default the run's own options hold.

    Attributes:
        data: path of the data; by default where training found it.
        force: replace the prior that is there.
    """

    data: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Compare:
    """The comparison; text, tables and sequences of your own need no name of a recipe.

    Attributes:
        grid: options and their values; every combination is a cell. --state A,B is short for
            --grid state=A,B.
        cells: combinations of their own, each in quotes.
        seeds: runs of every cell.
        budget: seconds of training of every run instead of --steps, without those of a prior: an
            update of each is timed first, and the numbers of updates are kept in budget.json.
        jobs: runs at a time, each in a process of its own; they share the GPUs.
        out: folder of the runs and the table; one that is there is completed.
        data: path of the data, for recipes that need one.
        metrics: which to show, separated by commas, * for any letters.
        config: YAML file with options of all cells.
        json: print the table as JSON.
    """

    grid: str | None = None
    cells: str | None = None
    seeds: int = 3
    budget: float | None = None
    jobs: int = 1
    out: str | None = None
    data: str | None = None
    metrics: str | None = None
    config: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Record:
    """The recording.

    Attributes:
        out: its file, .safetensors.
        steps: how many to record; with Ctrl-C those made so far are kept, of doom in whole parts
            of 5,000.
        seed: of the draws.
        force: replace the file if it exists.
        json: print the result as JSON.
    """

    out: str | None = None
    steps: int = 1_000_000
    seed: int = 0
    force: bool = False
    json: bool = False


@dataclass(frozen=True)
class MazeSource:
    """A point mass that a controller drives from goal to goal (extra sim).

    Attributes:
        maze: which (PointMaze v3).
        stay: at each goal the controller stays 0 to so many steps more.
    """

    maze: Literal["umaze", "medium", "large"] = "umaze"
    stay: int = 100


@dataclass(frozen=True)
class DoomSource:
    """Video of a random walk through the rooms of Doom's my_way_home (extra sim).

    Attributes:
        walk: blind draws its actions without looking, so that they suit whatever a video shows;
            seeing goes where there is room, and is led into walls where a video differs.
        size: side of a frame, in pixels; a step takes 3 size^2 bytes, 12 kB at 64.
        skip: tics, of 35 a second, that an action is held.
        jobs: processes that record at the same time; the recording does not depend on it.
    """

    walk: Literal["blind", "seeing"] = "blind"
    size: int = 64
    skip: int = 4
    jobs: int = 1


SOURCES: dict[str, type] = {"maze": MazeSource, "doom": DoomSource}
"""What can be recorded, and the options of each; `noiseloom.record` has their simulators."""
