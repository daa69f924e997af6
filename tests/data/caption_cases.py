"""Small sets of pictures with captions, one of each kind, whose pictures are plain colours."""

import io
import json
import zipfile

from PIL import Image

COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "grey": (99, 99, 99)}
SAID = {name: [f"a {name} wall", f"all is {name} here"] for name in COLOURS}


def png(colour, size=(8, 8), mode="RGB", kind="PNG"):
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, kind)
    return data.getvalue()


def files_of_texts():
    found = {f"{name}.png": png(colour) for name, colour in COLOURS.items()}
    return found | {f"{name}.txt": "\n\n".join(SAID[name]) + "\n" for name in COLOURS}


def files_of_table():
    found = {f"pictures/{name}.png": png(colour) for name, colour in COLOURS.items()}
    lines = [f'pictures/{name}.png,"{text}"' for name in COLOURS for text in SAID[name]]
    return found | {"captions.csv": "\n".join(["picture,caption", *lines])}


def files_of_coco():
    found = {f"val2017/{name}.jpg": png(c, kind="JPEG") for name, c in COLOURS.items()}
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate(COLOURS)]
    notes = [
        {"id": 100 * k + i, "image_id": i, "caption": SAID[name][k]}
        for k in range(2)
        for i, name in enumerate(COLOURS)
    ]
    content = {"info": {}, "images": images, "annotations": notes}
    return found | {"annotations/captions_val2017.json": json.dumps(content)}


def files_of_emoji(styles=("google", "twitter")):
    entries, found = [], {}
    for i, (name, colour) in enumerate(COLOURS.items()):
        code = f"1F60{i}"
        entry = {"name": f"{name.upper()} WALL", "unified": code, "image": f"1f60{i}.png"}
        entry["short_name"] = name
        entry["skin_variations"] = {"1F3FB": {"image": f"1f60{i}-1f3fb.png"}}
        entries.append(entry)
        for k, style in enumerate(styles):
            lighter = tuple(c + 20 + k for c in colour)
            found[f"img/{style}/64/1f60{i}.png"] = png(tuple(c + k for c in colour))
            found[f"img/{style}/64/1f60{i}-1f3fb.png"] = png(lighter)
    return found | {"emoji.json": json.dumps(entries)}


def files_of_nlvr():
    """Of four sentences, each about two scenes in two orders, one of the eight is false."""
    found, lines = {}, {"dev": [], "test": []}
    for i, (name, colour) in enumerate(COLOURS.items()):
        split = "dev" if i % 2 else "test"
        for scene in range(2):
            false = (i, scene) == (3, 1)
            lines[split].append(
                {
                    "sentence": f"There is a {name} wall." if not false else "there is nothing",
                    "identifier": f"{10 + i}-{scene}",
                    "label": "false" if false else "true",
                    "structured_rep": [[{"x_loc": i}], [{"x_loc": scene}], []],
                }
            )
            for order in range(2):
                where = f"{split}/images/{i}/{split}-{10 + i}-{scene}-{order}.png"
                shade = tuple(c + 20 * scene + order for c in colour)
                found[where] = png((*shade, 255), (40, 10), "RGBA")
    found["README.md"] = "about"
    for split, records in lines.items():
        found[f"{split}/{split}.json"] = "\n".join(map(json.dumps, records)) + "\n"
    return found


def written(files, folder, packed=False):
    """A folder, or a zip file of it, with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {n: c if isinstance(c, bytes) else c.encode() for n, c in files.items()}
    if packed:
        path = folder / "all.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in data.items():
                archive.writestr(name, content)
        return path
    for name, content in data.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
