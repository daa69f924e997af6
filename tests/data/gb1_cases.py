"""Small files as FLIP's: the splits, and the table of all that was measured."""

import csv
import io
import random
import zipfile

DOMAIN = "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"
REST = "LEVLFQGPLDPNS" + "G" * 196  # what FLIP's construct has behind it: 265 in all
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def variant(four):
    """The construct with these residues at the four sites."""
    domain = list(DOMAIN)
    for site, letter in zip((38, 39, 40, 53), four, strict=True):
        domain[site] = letter
    return "".join(domain) + REST


def measured(count=60, seed=0):
    """Fitness by variant, the protein's own first, with values below and above 1."""
    draw = random.Random(seed)
    found = {"VDGV": 1.0}
    while len(found) < count:
        found["".join(draw.choices(LETTERS, k=4))] = round(draw.random() * 3, 6)
    return found


def part_of(four, fitness):
    """Where low_vs_high has it: train, validation or test."""
    if fitness >= 1:
        return "test"
    return "validation" if ord(four[0]) % 5 == 0 else "train"


def split_text(known, part=part_of):
    """A file of one split."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["sequence", "target", "set", "validation"])
    for four, fitness in known.items():
        where = part(four, fitness)
        held = "True" if where == "validation" else ""
        rows.writerow([variant(four), fitness, "train" if held else where, held])
    return file.getvalue()


def table_text(known, kept):
    """The file of all that was measured; those of `kept` are in the split."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    columns = ["Variants", "HD", "Count input", "Count selected", "Fitness", "sequence", "keep"]
    rows.writerow([*columns, "low_vs_high", "low_vs_high_validation"])
    for four, fitness in known.items():
        part = ["", ""]
        if four in kept:
            where = part_of(four, fitness)
            part = ["train", "True"] if where == "validation" else [where, ""]
        rows.writerow([four, 0, 1, 1, fitness, variant(four), four in kept, *part])
    return file.getvalue()


def write_zip(path, files):
    """A .zip file of texts by name, as the Mac makes them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr("splits/.DS_Store", b"\0")
        archive.writestr("__MACOSX/splits/._low_vs_high.csv", b"\0")
    return path


def splits_zip(path, known):
    """flip_gb1_splits.zip of these variants."""
    return write_zip(
        path, {"splits/low_vs_high.csv": split_text(known), "splits/low_vs_high.fasta": ">"}
    )
