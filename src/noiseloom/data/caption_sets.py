"""Sets of pictures with captions in files of their own: emoji, MS-COCO, NLVR."""

import json
import posixpath
from pathlib import PurePosixPath
from typing import Any

from noiseloom.data.captioned import Captioned, Source, json_of, named, part_of

__all__ = ["coco", "emoji", "nlvr"]

_TONES = {
    "1F3FB": "light",
    "1F3FC": "medium-light",
    "1F3FD": "medium",
    "1F3FE": "medium-dark",
    "1F3FF": "dark",
}


def emoji(found: Source, name: str, text: str) -> None:
    """emoji-datasource: names of code points, and pictures of them in one style or several."""
    folder = posixpath.dirname(name)
    stems = named(found, lambda n: PurePosixPath(n).stem.lower())
    absent = 0
    for number, entry in enumerate(json_of(text, name, list), 1):
        try:
            code = entry["unified"]
            known = entry.get("name") or entry["short_name"].replace("_", " ")
            kinds = [(known.lower(), entry["image"])]
            for tones, kind in (entry.get("skin_variations") or {}).items():
                told = ", ".join(f"{_TONES[tone]} skin tone" for tone in tones.split("-"))
                kinds.append((f"{known.lower()}, {told}", kind["image"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{name}, entry {number} is no emoji: {error!r}") from error
        for caption, image in kinds:
            own = [
                n
                for n in stems[PurePosixPath(image).stem.lower()]
                if n.startswith(f"{folder}/" if folder else "")
            ]
            absent += not own
            for picture in own:
                pair = Captioned(picture, groups={f"code {code}"})
                pair.add(caption, f"{name}, entry {number}")
                found.pictures.append(pair)
    if absent:
        found.notes.append(f"{absent} emoji of {name} have no picture")


def coco(found: Source, name: str, text: str) -> None:
    """Captions of MS-COCO: lists of images and of annotations, joined by numbers."""
    content = json_of(text, name, dict)
    tag = PurePosixPath(name).stem.removeprefix("captions_")
    pictures = named(found, posixpath.basename)
    split = next((word for word in ("train", "val", "test") if tag.startswith(word)), "")
    part = part_of(split)
    own: dict[Any, Captioned] = {}
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            kind = f"it is {type(content[key]).__name__}" if key in content else "there is none"
            raise ValueError(
                f"{name} is no file of captions of COCO, or damaged: {key} must be a list, and "
                f"{kind}"
            )
    try:
        for image in content["images"]:
            places = pictures[posixpath.basename(image["file_name"])]
            if len(places) > 1:  # the same name in train2017 and elsewhere
                places = [p for p in places if tag in PurePosixPath(p).parts] or places
            if len(places) > 1:
                exact = [p for p in places if p.endswith(image["file_name"])]
                places = exact if len(exact) == 1 else places
            if len(places) > 1:
                raise ValueError(
                    f"{name}, image {image['id']}: {image['file_name']} may be any of "
                    f"{', '.join(places[:3])}: say which folder it is in by images"
                )
            file = places[0] if places else ""
            own[image["id"]] = Captioned(file or image["file_name"], part=part)
        for note in content["annotations"]:
            where, image = f"{name}, annotation {note['id']}", note["image_id"]
            if image not in own:
                raise ValueError(f"{where}: it is of image {image}, which is not among the images")
            if not isinstance(note["caption"], str):
                told = json.dumps(note["caption"])
                raise ValueError(f"{where}: the caption must be a text, got {told}")
            own[image].add(note["caption"], where)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} is no file of captions of COCO, or damaged: {error!r} is not there"
        ) from error
    bare = sum(not pair.captions for pair in own.values())
    if bare:
        found.notes.append(f"{bare} images of {name} have no caption")
    for number, pair in own.items():
        if pair.captions and pair.name in found.files:
            found.pictures.append(pair)
        elif pair.captions:
            found.missing.append(f"{name}, image {number}: there is no picture {pair.name}")


def nlvr(found: Source, name: str, text: str) -> None:
    """NLVR: sentences about three boxes, true or false; each box may be drawn in any order."""
    split = PurePosixPath(name).stem
    pictures = named(found, lambda n: posixpath.basename(n).rpartition("-")[0])
    false = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        record = json_of(line, where, dict)
        try:
            identifier, sentence, boxes = (
                record[key] for key in ("identifier", "sentence", "structured_rep")
            )
            if record["label"] not in ("true", "false"):
                raise ValueError(f"{where}: the label is {record['label']!r}, not true or false")
            if record["label"] == "false":
                false += 1
                continue
            scene = sorted(json.dumps(box, sort_keys=True) for box in boxes)
            groups = {f"sentence {identifier.split('-')[0]}", f"boxes {' '.join(scene)}"}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} is no record of NLVR: {error!r}") from error
        own = sorted(pictures[f"{split}-{identifier}"])
        if not own:
            found.missing.append(f"{where}: there is no picture {split}-{identifier}-*.png")
        for picture in own:
            pair = Captioned(picture, groups=groups)
            pair.add(sentence, where)
            found.pictures.append(pair)
    if false:
        found.notes.append(f"{false} sentences of {name} are false of their pictures")
