"""Scenes: sentences are as true as another reader finds them, and pictures differ as scenes do."""

import itertools
import random

import pytest
import torch

from noiseloom.data.scene_grammar import PLACES, RELATIONS, WORDS, clauses, kinds
from noiseloom.data.scene_reading import parse
from noiseloom.data.scene_things import COLOURS, SHAPES, SIZES, Thing
from noiseloom.data.scenes import Scene, describe, holds, random_scene, random_scenes
from noiseloom.rng import Rng

# A reader of its own: sentences are put together here from words, with what makes them true in
# terms of dictionaries from cell to looks. It shares no code with the grammar.
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
LOOKS = [
    (size, colour, shape)
    for size in (None, "small")
    for colour in (None, "red", "blue")
    for shape in (None, "circle", "cross")
]
CELLS = {
    "top row": ["00", "01", "02"],
    "middle row": ["10", "11", "12"],
    "bottom row": ["20", "21", "22"],
    "left column": ["00", "10", "20"],
    "middle column": ["01", "11", "21"],
    "right column": ["02", "12", "22"],
    "top left corner": ["00"],
    "middle of the top row": ["01"],
    "top right corner": ["02"],
    "middle of the left column": ["10"],
    "centre": ["11"],
    "middle of the right column": ["12"],
    "bottom left corner": ["20"],
    "middle of the bottom row": ["21"],
    "bottom right corner": ["22"],
}


def singular(looks):
    return " ".join(word for word in looks[:2] if word) + f" {looks[2] or 'shape'}"


def name(looks):
    return singular(looks).strip()


def names(looks):
    return name(looks) + ("es" if looks[2] == "cross" else "s")


def cells_of(world, looks):
    return [
        cell
        for cell, have in world.items()
        if all(want is None or want == one for want, one in zip(looks, have, strict=True))
    ]


def beside(cell, other, relation):
    (row, column), (r, c) = map(int, cell), map(int, other)
    return {
        "left of": column - c < 0,
        "right of": column - c > 0,
        "above": row - r < 0,
        "below": row - r > 0,
        "next to": {row - r, column - c} in ({0, 1}, {0, -1}),
        "in the same row as": row == r,
        "in the same column as": column == c,
    }[relation]


def said_of(world):
    """Every sentence of these looks, with its truth."""
    found = {looks: cells_of(world, looks) for looks in LOOKS}
    for looks, cells in found.items():
        yield f"there is a {name(looks)}", len(cells) > 0
        yield f"there is no {name(looks)}", not cells
        yield f"there is exactly one {name(looks)}", len(cells) == 1
        for number in range(2, 7):
            exactly = f"there are exactly {NUMBERS[number]} {names(looks)}"
            yield exactly, len(cells) == number
            yield exactly.replace("exactly", "at least"), len(cells) >= number
        for place, inside in CELLS.items():
            yield f"a {name(looks)} is in the {place}", any(cell in inside for cell in cells)
        for sort, words in enumerate((SIZES, COLOURS, SHAPES)):
            for word in words if looks[sort] is None else ():
                article = "a " if sort == 2 else ""
                every = all(world[cell][sort] == word for cell in cells)
                yield f"every {name(looks)} is {article}{word}", len(cells) > 0 and every
    for (a, at), (b, there) in itertools.product(found.items(), repeat=2):
        for relation in RELATIONS:
            true = any(
                beside(cell, other, relation) for cell in at for other in there if cell != other
            )
            yield f"a {name(a)} is {relation} a {name(b)}", true
        if a != b:
            yield f"there are more {names(a)} than {names(b)}", len(at) > len(there)
            equal = len(at) == len(there) and len(at) > 0
            yield f"there are as many {names(a)} as {names(b)}", equal


def some_worlds(count):
    draw = random.Random(0)
    for _ in range(count):
        cells = draw.sample([f"{row}{column}" for row in range(3) for column in range(3)], 3)
        looks = itertools.product(SIZES, ("red", "blue", "white"), ("circle", "cross", "square"))
        looks = draw.sample(list(looks), 2)
        yield {cell: draw.choice(looks) for cell in cells[: draw.randint(1, 3)]}


def scene_of(world):
    things = (
        Thing(int(cell[0]), int(cell[1]), shape, colour, size)
        for cell, (size, colour, shape) in world.items()
    )
    return Scene(tuple(sorted(things)))


def test_a_sentence_holds_exactly_if_a_reader_finds_it_so():
    true = total = 0
    for world in some_worlds(30):
        scene = scene_of(world)
        for sentence, expected in said_of(world):
            assert holds(scene, sentence) is expected, (world, sentence)
            true, total = true + expected, total + 1
    assert total > 100_000
    assert 0.02 < true / total < 0.5  # both answers are asked for often


def test_two_clauses_hold_if_both_do():
    world = next(some_worlds(1))
    scene = scene_of(world)
    few = random.Random(1).sample(list(said_of(world)), 150)
    for (a, first), (b, second) in itertools.permutations(few, 2):
        assert holds(scene, f"{a} and {b}") is (first and second)


def test_there_are_more_than_100_000_sentences_all_different_and_all_read():
    found = {}
    for clause in clauses():
        assert found.setdefault(clause.text, clause) is clause
        assert len(found) % 5 or parse(clause.text) == (clause,)
        assert set(clause.text.split()) <= set(WORDS)
    assert len(found) == 146_457
    # By sorts of clauses, counted by hand: 126 kinds; 13 counts, 15 places; 13 properties of which
    # a kind that has that sort is not told (126 x 13 less 84 x 2, 108 x 6 and 105 x 5); 7 relations
    # of 126 x 126; two comparisons of 126 x 125.
    assert len(list(kinds())) == 126
    every = 126 * 13 - (84 * 2 + 108 * 6 + 105 * 5)
    assert len(found) == 126 * (13 + 15) + every + 7 * 126**2 + 2 * 126 * 125


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "a picture of a cat",
        "there is a red red circle",
        "there is a circle red",
        "there is a red small circle",
        "there is a red circles",
        "there are exactly two red circle",
        "there are exactly one red circles",
        "there are exactly seven circles",
        "There is a circle",
        "there is a circle.",
        " there is a circle",
        "there is a  circle",
        "every red circle is blue",
        "every circle is circle",
        "every circle is a red",
        "every shape is a shape",
        "there are more circles than circles",
        "there are as many circles as circles",
        "a circle is left a circle",
        "a circle is in the middle",
        "there is a circle and",
        "there is a circle and there is a circle",
        "there is a circle and there is a square and there is a cross",
    ],
)
def test_what_is_no_sentence_is_neither_true_nor_false(sentence):
    assert holds(random_scene(Rng(0)), sentence) is None


def test_what_is_described_is_so():
    scenes = random_scenes(400, 5, Rng(3), least=1, most=6)
    drawn = [sentence for _, said in scenes for sentence in said]
    for scene, said in scenes:
        assert len(set(said)) == len(said)
        assert all(holds(scene, sentence) is True for sentence in said)
    # Every sort of clause is described, and a sentence is hardly ever true of another picture.
    clauses_drawn = [clause for sentence in drawn for clause in parse(sentence)]
    assert {type(clause).__name__ for clause in clauses_drawn} == {
        "Comparison", "Count", "Every", "Place", "Relation",
    }  # fmt: skip
    for words in (RELATIONS, PLACES, COLOURS, SHAPES, SIZES, ("no", "every", "more", "as many")):
        assert all(any(word in sentence for sentence in drawn) for word in words)
    assert {len(parse(sentence)) for sentence in drawn} == {1, 2}
    shifted = scenes[1:] + scenes[:1]
    elsewhere = [
        holds(other, sentence)
        for (_, said), (other, _) in zip(scenes, shifted, strict=True)
        for sentence in said
    ]
    assert sum(elsewhere) / len(elsewhere) < 0.15


def test_draws_are_of_their_key_alone():
    few, many = random_scenes(20, 3, Rng(5)), random_scenes(300, 3, Rng(5))
    assert many[:20] == few
    assert len({scene for scene, _ in many}) == 300
    assert random_scenes(20, 3, Rng(6)) != few
    scene = random_scene(Rng(1), 4, 4)
    assert len(scene.things) == 4
    assert scene == random_scene(Rng(1), 4, 4)
    assert describe(scene, Rng(2)) == describe(scene, Rng(2))
    assert len({describe(scene, Rng(seed)) for seed in range(20)}) > 15


def test_things_of_scenes_are_spread_evenly():
    scenes = [scene for scene, _ in random_scenes(4000, 1, Rng(0), least=2, most=5)]
    counts = torch.bincount(torch.tensor([len(scene.things) for scene in scenes]), minlength=6)
    # Scenes of two things come again now and then, and are left out: few, at this size.
    assert ((counts[2:] - 1000).abs() < 5 * (4000 * 0.25 * 0.75) ** 0.5).all()
    cells = torch.tensor([3 * a.row + a.column for scene in scenes for a in scene.things])
    share = torch.bincount(cells, minlength=9) / len(scenes)
    assert ((share - 3.5 / 9).abs() < 5 * (3.5 / 9 * (1 - 3.5 / 9) / 4000) ** 0.5).all()


def test_only_scenes_of_that_size_are_looked_for():
    assert len(random_scenes(540, 1, Rng(0), least=1, most=1)) == 540  # 9 x 5 x 6 x 2: all of them
    with pytest.raises(ValueError, match="ask for fewer"):
        random_scenes(541, 1, Rng(0), least=1, most=1)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_other_scenes_have_other_pictures(size):
    looks = list(itertools.product(SHAPES, COLOURS, SIZES))
    # In one cell, all looks differ from each other and from nothing, clearly so; and cells are
    # apart, so that scenes of several things differ where one of their cells does.
    empty = Scene((Thing(2, 2, "circle", "red", "small"),)).pixels(size)
    drawn = [
        Scene((Thing(0, 0, *look), Thing(2, 2, "circle", "red", "small"))).pixels(size)
        for look in looks
    ]
    pixels = torch.stack([empty, *drawn]).double().flatten(1)
    difference = torch.cdist(pixels, pixels, p=1)
    own = difference[0, 1:]  # from where there is nothing
    least = torch.minimum(own[:, None], own[None])
    # Of what either thing is worth, the share in which they differ.
    share = difference[1:, 1:] / least + torch.eye(len(looks))
    assert float(share.min()) > 0.2
    assert float(own.min()) > 3 * 255
    cells = list(itertools.product(range(3), range(3)))
    touched = [
        Scene((Thing(*cell, "square", "white", "large"),)).pixels(size) != 38 for cell in cells
    ]
    touched = torch.stack([t[0] for t in touched]).int()
    assert int(touched.sum(0).max()) == 1


def test_a_picture_has_its_colours_where_its_things_are():
    scene = Scene((Thing(0, 2, "square", "green", "large"), Thing(1, 0, "circle", "red", "large")))
    pixels = scene.pixels(32)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 5, 25].tolist() == [30, 180, 60]
    assert pixels[:, 15, 5].tolist() == [230, 40, 40]
    assert pixels[:, 25, 25].tolist() == [38, 38, 46]
    assert pixels.is_contiguous()


def test_a_circle_has_the_area_of_a_circle():
    pixels = Scene((Thing(1, 1, "circle", "white", "large"),)).pixels(300)
    share = (pixels[0].double() - 38) / (245 - 38)
    assert abs(float(share.sum()) / (torch.pi * 49.5**2) - 1) < 2e-3  # rounding, and 1 / 64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thing(3, 0, "circle", "red", "small"), "cells of a scene are 0 .. 2"),
        (lambda: Thing(0, 0, "cat", "red", "small"), "the shape must be one of circle"),
        (lambda: Scene(()), "1 to 6 things"),
        (lambda: Scene((Thing(0, 0, "circle", "red", "small"),) * 2), "one in a cell"),
        (lambda: random_scene(Rng(0), 3, 2), "1 to 6 things, got 3 to 2"),
        (lambda: random_scene(Rng(0), 2, 7), "1 to 6 things, got 2 to 7"),
        (lambda: random_scenes(0, 1, Rng(0)), "at least 1"),
        (lambda: random_scene(Rng(0)).pixels(16), "needs 24 pixels a side"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
