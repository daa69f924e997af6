"""Schemas of tables: what is inferred can be given back, edited, and is checked."""

from pathlib import Path

import pytest
import yaml
from table_cases import table

from noiseloom.data import read_table
from noiseloom.data.table_schema import read_schema
from noiseloom.data.table_writing import write_table


@pytest.mark.parametrize("options", [{}, {"rare": 3}, {"bins": 7, "whole": 20}])
def test_a_schema_given_back_makes_the_same_table(tmp_path, options):
    path = table(tmp_path / "a.csv")
    split, vocabulary = read_table(path, **options)
    vocabulary.write_schema(tmp_path / "schema.yaml")
    again, same = read_table(path, schema=tmp_path / "schema.yaml")
    assert same.columns == vocabulary.columns
    assert again.fingerprint() == split.fingerprint()
    with pytest.raises(FileExistsError, match="exists: choose"):
        vocabulary.write_schema(tmp_path / "schema.yaml")


def test_a_schema_can_be_edited(tmp_path):
    path = table(tmp_path / "a.csv")
    read_table(path)[1].write_schema(tmp_path / "schema.yaml")
    text = (tmp_path / "schema.yaml").read_text(encoding="utf-8")
    said = yaml.safe_load(text)
    assert said["who"] == "leave_out"
    assert said["city"]["values"] == ["Köln", "a, b", 'the "city"']
    said["age"] = {"kind": "real", "bins": 4}
    said["income"] = "leave_out"
    said["city"]["values"].reverse()
    said["debt"] = {"kind": "real", "bins": 9}
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    split, vocabulary = read_table(path, schema=tmp_path / "schema.yaml")
    assert vocabulary.names == ("age", "city", "score", "debt")
    assert vocabulary.sizes[0] == 4
    assert vocabulary.columns[1].values == ('the "city"', "a, b", "Köln")
    assert 8 <= vocabulary.sizes[3] <= 11
    assert "column 'income' is left out: by the schema" in split.notes
    assert isinstance(vocabulary.decode(split.train.values)[0][0], float)


def test_mixed_labels_are_categories_where_a_schema_says_so(tmp_path):
    rows = "".join(f"{d},{s}\n" for d in ("2", "3", "5more") for s in ("1", "2") for _ in range(9))
    path = tmp_path / "a.csv"
    path.write_text("doors,size\n" + rows)
    with pytest.raises(ValueError, match="say in the schema that the column is categorical"):
        read_table(path)
    vocabulary = read_table(path, schema={"doors": "categorical", "size": "categorical"})[1]
    assert vocabulary.columns[0].values == ("2", "3", "5more")
    assert vocabulary.columns[1].values == (1, 2)  # numbers, as they would be written again


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("a: colour", "a kind is one of categorical, integer, real, date, leave_out, got 'colour'"),
        ("a: 3", "a kind is one of"),
        ("- a", "must have a line for each column"),
        ("a: {kind: real, low: 3}", "real has bins, missing, not 'low'"),
        ("a: {kind: integer, low: 3.5}", "low must be a whole number, got 3.5"),
        ("a: {kind: integer, low: 3, bins: 4}", "low and high one by one, or bins"),
        ("a: {kind: integer, low: 3, high: 2}", "low at most high"),
        ("a: {kind: real, bins: 1}", "bins must be at least 2"),
        ("a: {kind: categorical, values: [yes, no]}", "write the value True in quotes"),
        ("a: {kind: categorical, values: [2020-01-01]}", "in quotes"),
        ("a: {kind: categorical, values: [x, x]}", "a value is there twice"),
        ("a: {kind: categorical, values: x}", "values must be a list"),
        ("a: {kind: categorical, missing: 1}", "missing must be true or false"),
        ("a: {kind: leave_out, gaps: 1}", "gaps must be true or false"),
        ("a: {kind: leave_out, missing: true}", "leave_out has gaps, not 'missing'"),
        ("no: real", "write the column False in quotes"),
        ("a: {kind", "is no schema"),
    ],
)
def test_schemas_are_checked(tmp_path, said, message):
    path = tmp_path / "schema.yaml"
    path.write_text(said)
    with pytest.raises(ValueError, match=message) as error:
        read_table(table(tmp_path / "a.csv"), schema=path)
    assert "schema.yaml" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "a.csv", schema=tmp_path / "none.yaml")


def test_the_schema_of_the_readme_is_one(tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = readme.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "schema.yaml").write_text(example, encoding="utf-8")
    wishes, rules = read_schema(tmp_path / "schema.yaml")
    assert list(wishes) == ["who", "sex", "age", "fare", "sailed"]
    assert len(rules) == 3


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_gaps_of_what_is_left_out_drop_the_same_rows_by_a_schema(tmp_path, form):
    rows = [("" if i % 5 == 0 else "same", f"{i % 9}", "xyz"[i % 3]) for i in range(200)]
    path = tmp_path / f"a.{form}"
    write_table(path, ["k", "a", "b"], rows, [True, False, True])
    options = {"constant": "leave_out", "missing": "drop"}
    split, vocabulary = read_table(path, **options)
    assert len(split.train) + len(split.held_out) == 160  # a fifth has no k
    vocabulary.write_schema(tmp_path / "schema.yaml")
    again, same = read_table(path, schema=tmp_path / "schema.yaml", **options)
    assert again.fingerprint() == split.fingerprint()
    assert same.columns == vocabulary.columns
    assert same.schema() == vocabulary.schema()
    assert read_table(path, vocabulary=same, missing="drop")[0].fingerprint() == again.fingerprint()
    # Nowhere else has a column that is left out a say, whatever is in it.
    every = read_table(path, schema={"k": {"kind": "leave_out", "gaps": True}}, missing="refuse")[0]
    assert len(every.train) + len(every.held_out) == 200


def test_a_column_of_any_cells_can_be_left_out_but_for_its_gaps(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{['', i, f'n{i}'][i % 3]},{i % 7}\n" for i in range(900))
    path.write_text("k,a\n" + rows)
    schema = {"k": {"kind": "leave_out", "gaps": True}}
    split, vocabulary = read_table(path, schema=schema, missing="drop")
    assert len(split.train) + len(split.held_out) == 600
    assert vocabulary.schema()["k"] == schema["k"]
