"""Files of tables, and tokens of them."""

import csv
import random

import torch

from noiseloom.rng import Rng


def written(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def people(path, rows=400, seed=0, delimiter=",", gaps=0.0):
    """A file of every kind of column: spikes, few and many whole numbers, words, an identifier."""
    draw = random.Random(seed)
    names = ("id", "age", "income", "city", "children", "debt", "who")
    lines = [delimiter.join(names)]
    for i in range(rows):
        cells = [
            str(i + 7),
            str(draw.randint(18, 90)),
            str(draw.randint(0, 10**6)),
            draw.choice(["Köln", '"a, b; c"', '"he said ""no"""', "Bonn"]),
            str(min(int(draw.expovariate(0.7)), 5)),
            "0" if draw.random() < 0.4 else repr(draw.lognormvariate(5, 2)),
            f"person {i}",
        ]
        if gaps:
            cells = [draw.choice(["", "NA", "?"]) if draw.random() < gaps else c for c in cells]
        lines.append(delimiter.join(cells))
    return written(path, "\n".join(lines) + "\n")


def table(path, seed=0, rows=300):
    draw = random.Random(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["who", "age", "income", "city", "score", "debt"])
        for i in range(rows):
            writer.writerow(
                [
                    f"person {i}",
                    draw.randint(18, 60),
                    draw.randint(-(10**7), 10**7),
                    draw.choice(["Köln", "a, b", 'the "city"', ""]),
                    draw.choice([0.5, 1.5, 12.25]),
                    0 if draw.random() < 0.4 else draw.gauss(0, 1e-3),
                ]
            )
    return path


def anything(vocabulary, rows, seed=0):
    """Tokens of all classes, trained on or not."""
    columns = [Rng(seed).fold("c", c).integers(k, (rows,)) for c, k in enumerate(vocabulary.sizes)]
    return torch.stack(columns, 1)
