"""The verbs of the command line and the options of their own."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "VERBS",
    "Answer",
    "Captioning",
    "Compare",
    "Demo",
    "Evaluate",
    "MakePrior",
    "Push",
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
    "caption": Verb(
        "caption RUN PICTURE [PICTURE ...]",
        "say what is in pictures, and how sure the run is of each word",
        ("run", "picture..."),
    ),
    "prior": Verb(
        "prior RUN [--prior KIND]", "make what draws a run's codes, or go on with it", ("run",)
    ),
    "guide": Verb(
        "guide RUN --labels FILE [--context FILE]",
        "train what leads a run's samples to a property, and says how far to trust it",
        ("run",),
    ),
    "evaluate": Verb(
        "evaluate RUN [--guide FOLDER]", "judge samples beside real data, or guides", ("run",)
    ),
    "compare": Verb(
        "compare [RECIPE] --grid NAME=A,B ... --out FOLDER",
        "train a grid of options, with one table",
    ),
    "record": Verb(
        "record maze|doom|benzenoids --out FILE", "make data to train on with a simulator or a list"
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
        start: of plans, what is observed now, instead of held-out starts: a number for each column,
            x,y in a maze (at rest).
        goal: of plans, where to: x,y in a maze, by default its goal; elsewhere numbers of columns,
            by name or number, as in '0=1.5,1=-2', or a number for each column. Plans of others than
            mazes are led there by --goal-guidance, or --deadline.
        actions: of videos, a file with one row for each frame to make, .npy or .csv, which all of
            them follow instead of recorded ones; --length is then by default that of the file.
        known: of text and sequences, a template whose gaps, written _, are filled; of tables a .csv
            file of rows with empty cells; of numbers a line, 3,_,7, or a .npy, .csv or .txt file of
            rows, with -1 for gaps; of digits row by row a .npy file of pictures, with NaN in all of
            a row that is drawn, or one picture that is transparent there; -n is then by default 4
            for each row, or picture, of it. Of series a .csv file with empty cells in all columns
            of steps that are filled in, after as many that are known as a forecast follows.
        gap: the character that stands for a gap in --known.
        guide: folder of a guide that leads the samples, or its name among the run's own, or
            several, separated by commas; out is then a table, .csv, of different structures, the
            best first.
        parent: a sequence that is redesigned: each sample differs from it at no more than
            --max-edits places, which are drawn for it, and has its length.
        max_edits: of --parent; by default as many as --sites are.
        sites: of --parent, the places that may change, from 1, as in 39-41,54; by default all.
        choose: of --parent, where a sample may change: at random, or rather where the --guide sees
            most to gain by one substitution (guide).
        codes_from: of a model with codes, a file with one row of these for each sample, .npy or
            .csv, instead of what --codes draws; -n is then by default the number of rows.
        seed: of the draws.
        out: PNG file, for forecasts, plans and tables CSV, for text and sequences .txt (numbers may
            be .npy), for videos
            .webp, or with their actions .safetensors; by default RUN-seedSEED with that ending.
        force: replace the file if it exists.
    """

    n: int | None = None
    label: str | None = None
    data: str | None = None
    start: str | None = None
    goal: str | None = None
    actions: str | None = None
    codes_from: str | None = None
    known: str | None = None
    gap: str = "_"
    guide: str | None = None
    parent: str | None = None
    max_edits: int | None = None
    sites: str | None = None
    choose: Literal["random", "guide"] = "random"
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
class Captioning(Answer):
    """The captions, on standard output; by default the run's own sampling options hold.

    Attributes:
        n: number of captions (-n) of each picture. The number below a word is how sure the run is
            of its least sure token: masked or of other classes, the probability it had when it was
            chosen; autoregressive, after those before; of bits and other codes a mean over the
            steps, which is no probability.
        seed: of the draws.
    """

    n: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Evaluate(Answer):
    """The evaluation; by default the run's own sampling options hold.

    Attributes:
        data: path of the data; by default where training found it.
        seed: of the draws; by default the run's own.
        samples: how many samples to judge; by default the run's own. Where Ctrl-C or SIGTERM
            interrupts it, what is whole is judged and kept as cut short: stretches of videos,
            kinds of task in a maze, comparisons of codes.
        half: of captions, which held-out pictures to judge: both halves, the first, or the second,
            so that options chosen on the one are reported of the other; by default the run's own.
        similarity: of captions, whether embeddings of sentences judge them, too (the extra eval);
            by default as the run says.
        truncate: of captions, whether those that are longer than the run's are cut, or refused; by
            default as the run says.
        guide: folders of guides, or of folders of these, separated by commas: judged instead are
            samples that each leads, 512 at every scale, beside unguided ones, in one table of means
            over seeds.
        scales: of --guide, separated by commas.
        truth: of --guide, a table of structures and true labels; by default what the recipe knows
            of labels that it makes itself.
        jobs: of --guide, guides at a time, each in a process of its own; they share the GPUs.
        out: of --guide, folder of the table, new or of an earlier one that is completed; by default
            RUN/guided.
    """

    data: str | None = None
    seed: int | None = None
    samples: int | None = None
    half: Literal["both", "first", "second"] | None = None
    similarity: bool | None = None
    truncate: bool | None = None
    guide: str | None = None
    scales: str = "0,1,2,4"
    truth: str | None = None
    jobs: int = 1
    out: str | None = None


@dataclass(frozen=True)
class Push(Answer):
    """The publishing.

    Attributes:
        guide: guides that go with the run, separated by commas: folders, or names among its own;
            the structures that they learnt from are not published.
    """

    guide: str | None = None


@dataclass(frozen=True)
class MakePrior(Answer):
    """The making; by default the run's own options hold.

    Attributes:
        data: path of the data; by default where training found it.
        out: folder of a new run that gets the prior, with a copy of this run's first stage and of
            its checkpoint, which take no room where the disk has links: to compare priors, as this
            run stays as it is.
        force: replace the prior that is there, or begin again with one that was begun; the old one
            and all evaluations and the report, which are of its samples, are removed when the new
            one is finished.
    """

    data: str | None = None
    out: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Compare:
    """The comparison; text, tables and sequences of your own need no name of a recipe.

    Attributes:
        grid: options and their values; every combination is a cell. --state A,B is short for
            --grid state=A,B.
        cells: combinations of their own, each in quotes.
        seeds: runs of every cell.
        budget: seconds of training of every run instead of --steps, with those of a prior that is
            trained: an update of each is timed first, and the numbers of updates are kept in
            budget.json. 60 where kinds of state are compared, unless --steps is given.
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
        steps: how many to record; with Ctrl-C or SIGTERM those made so far are kept, of doom in
            whole parts of 5,000. benzenoids are all there are.
        seed: of the draws.
        force: replace the file if it exists.
        json: print the result as JSON.
    """

    out: str | None = None
    steps: int = 1_000_000
    seed: int = 0
    force: bool = False
    json: bool = False
