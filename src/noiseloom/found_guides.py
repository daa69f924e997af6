"""Finding finished guides by what people type."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noiseloom.guide_folder import GUIDES, GuideRecord, read_guide
from noiseloom.recipes.guide_options import METHODS
from noiseloom.run import Run

__all__ = ["GuideFolder", "folders_of", "guides_in"]

_TRIAL = re.compile(r"only|\w+=[^,=]+(,\w+=[^,=]+)*")
"""What the folder of a configuration is called, in that of its method: as of `called`."""


@dataclass(frozen=True)
class GuideFolder:
    """A finished guide.

    Attributes:
        folder: where it lies.
        record: what is known of it.
        select: what its configuration was chosen by; "" for none.
    """

    folder: Path
    record: GuideRecord
    select: str = ""


def folders_of(text: str, source: str) -> list[str]:
    """Folders that are separated by commas, as they were typed; folders of trials hold commas, too.

    Args:
        text: folders, or names among the guides of the run.
        source: of the run.
    """
    words, found = text.split(","), list[str]()
    own = Path(source).expanduser() / GUIDES
    while words:
        longer = (",".join(words[:i]) for i in range(1, len(words) + 1))
        there = (p for p in longer if Path(p).expanduser().is_dir() or (own / p).is_dir())
        found.append(next(there, words[0]))
        words = words[found[-1].count(",") + 1 :]
    return found


def guides_in(paths: Sequence[str], run: Run) -> list[GuideFolder]:
    """Finished guides: of a guide's own folder that one, of another folder all inside it.

    A folder may be named by its place among the run's own guides, as "context-0".

    Trials of a choice are none of them, unless nothing else is there. What a guide's configuration
    was chosen by is said by the `selection.json` beside its folder.

    Raises:
        FileNotFoundError: no guide in a folder.
        ValueError: guides of different properties, or a damaged file.
    """
    found: dict[Path, GuideFolder] = {}
    for path in paths:
        root = Path(path).expanduser()
        if not root.exists() and (run.folder / GUIDES / root).is_dir():
            root = run.folder / GUIDES / root
        own = [root] if (root / "guide.yaml").is_file() else _below(root)
        records = [(folder, read_guide(folder)) for folder in own]
        good = [(f, record) for f, record in records if record is not None and record.finished]
        if not good:
            raise FileNotFoundError(f"no finished guide in {root}: make some with noiseloom guide")
        for folder, record in good:
            found.setdefault(folder.resolve(), GuideFolder(folder, record, _choice(folder)))
    guides = list(found.values())
    for other in guides[1:]:
        if other.record.names != guides[0].record.names:
            raise ValueError(
                f"{guides[0].folder} is of {', '.join(guides[0].record.names)}, {other.folder} of "
                f"{', '.join(other.record.names)}: guides beside each other are of one property"
            )
    return guides


def _below(root: Path) -> list[Path]:
    found = sorted(path.parent for path in root.rglob("guide.yaml"))
    found = [folder for folder in found if not folder.name.startswith(".")]  # not in its place yet
    inner = [folder.relative_to(root).parts for folder in found]
    own = [f for f, parts in zip(found, inner, strict=True) if "selection" not in parts[:-1]]
    return [folder for folder in own if not _is_trial(folder)] or own


def _is_trial(folder: Path) -> bool:
    return folder.parent.name in METHODS and _TRIAL.fullmatch(folder.name) is not None


def _choice(folder: Path) -> str:
    path = folder.parent / "selection.json"
    if not path.is_file():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["select"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say what guides were chosen by ({' '.join(str(error).split())}): "
            "choose again, or remove the file"
        ) from error
