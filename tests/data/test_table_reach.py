"""What a template says is known must be something that its column could be."""

import random

import pytest
from table_cases import written

from noiseloom.data import read_table


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """Whole numbers 0 .. 3, reals in bins from 0 to 12, whole numbers in bins, a category."""
    draw = random.Random(0)
    rows = ["0,0.0,0,x", "3,12.0,1000,y"]
    rows += [
        f"{draw.randint(0, 3)},{draw.uniform(0, 12):.3f},{draw.randint(0, 1000)},{'xy'[i % 2]}"
        for i in range(400)
    ]
    # Held-out rows teach nothing, so the two that have the ends of the ranges are trained on.
    lines = [f"{row},train" for row in rows] + ["1,5.0,7,x,test"] * 2
    path = written(
        tmp_path_factory.mktemp("reach") / "a.csv", "b,c,d,e,part\n" + "\n".join(lines) + "\n"
    )
    return read_table(path, split_by="part")[1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("99,,,", "line 3, column 'b': 99 is none of 0 .. 3"),
        ("-1,,,", "line 3, column 'b': -1 is none of 0 .. 3"),
        (",500000,,", "line 3, column 'c': 500000.0 is beyond 0 .. 12"),
        (",13.3,,", "line 3, column 'c': 13.3 is beyond 0 .. 12"),
        (",-1.3,,", "line 3, column 'c': -1.3 is beyond 0 .. 12"),
        (",,1101,", "line 3, column 'd': 1101 is beyond 0 .. 1000"),
    ],
)
def test_impossible_numbers_are_refused(vocabulary, tmp_path, row, message):
    path = written(tmp_path / "known.csv", f"b,c,d,e\n1,2.5,300,x\n{row}\n")
    with pytest.raises(ValueError, match=message) as error:
        vocabulary.read_template(path)
    assert "\n" not in str(error.value)


def test_numbers_a_tenth_of_the_range_beyond_it_are_in_the_outermost_class(vocabulary, tmp_path):
    path = written(tmp_path / "known.csv", "c,d\n13.2,1100\n-1.2,-100\n")
    tokens, known = vocabulary.read_template(path)
    sizes = vocabulary.sizes
    assert tokens[:, 1:3].tolist() == [[sizes[1] - 1, sizes[2] - 1], [0, 0]]
    assert known.tolist() == [[False, True, True, False]] * 2
