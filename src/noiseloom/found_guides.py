"""Finding finished guides by what people type."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from noiseloom.guide_folder import GUIDES, GuideRecord, read_guide
from noiseloom.run import Run

__all__ = ["GuideFolder", "guides_in"]


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


def guides_in(paths: Sequence[str], run: Run) -> list[GuideFolder]:
    """Finished guides: of a guide's own folder that one, of another folder all inside it.

    A folder may be named by its place among the run's own guides, as "context-0".

    Trials of a choice, in a folder called selection, are none of them. What a guide's configuration
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
    inner = [folder.relative_to(root).parts for folder in found]
    return [
        folder
        for folder, parts in zip(found, inner, strict=True)
        if "selection" not in parts[:-1] and not folder.name.startswith(".")  # not in its place yet
    ]


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
