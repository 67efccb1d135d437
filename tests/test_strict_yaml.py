"""What a person writes is read as it is meant, or refused in one line."""

import math
import re

import pytest

from flowprior.errors import FlowpriorError
from flowprior.experiment.loading import load_experiment, merged
from flowprior.strict_yaml import parse, read

MEANT = {
    "1e-3": 0.001,
    "2e-2": 0.02,
    "1E5": 1e5,
    "-1.5e3": -1500.0,
    ".5": 0.5,
    "3.": 3.0,
    "7": 7,
    "010": 10,
    "1:30": "1:30",
    "2020-01-01": "2020-01-01",
    "no": "no",
    "on": "on",
    "Yes": "Yes",
    "true": True,
    "False": False,
    "~": None,
    "null": None,
    "": None,
    "'1e-3'": "1e-3",
    ".inf": math.inf,
    "1_000": "1_000",
}


@pytest.mark.parametrize(("text", "value"), MEANT.items())
def test_scalars_are_what_they_look_like(text, value):
    found = parse(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 1", "{a: 1, a: 2}", "x:\n  b: {}\n  c: {}\n  b: {}", "- {k: 1, 'k': 2}", "1: a\n1: b", "a: 1\n? a\n: 2"],
)
def test_a_key_twice_is_refused_at_any_depth(text):
    with pytest.raises(FlowpriorError, match=r"line \d+: '.*' stands already in line \d+"):
        parse(text)


def test_anchors_and_merges_are_no_doubled_keys():
    assert parse("x: &x {k: 1, l: 2}\ny: {<<: *x, k: 3}\nz: *x")["y"] == {"k": 3, "l": 2}


@pytest.mark.parametrize(
    "text", ["a:\t1", "a:\n\t- 1", "[1", "a: 'b", "a: *b", "a: !!python/object:os.system b", "{a: 1}: 2"]
)
def test_what_is_no_yaml_is_said_with_its_line(text):
    with pytest.raises(FlowpriorError, match=r"^line \d+: ") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing"),
        (b"- a\n", "holds a list"),
        (b"word\n", "holds a str"),
        (b"1: a\n", "got the key 1"),
        ("name: x\n".encode("utf-16"), "is not in UTF-8"),
        (b"name: \xff\n", "is not in UTF-8"),
        (b"a: [1\n", "is not valid YAML: line"),
    ],
)
def test_files_that_hold_no_settings(tmp_path, content, message):
    path = tmp_path / "e.yaml"
    path.write_bytes(content)
    with pytest.raises(FlowpriorError, match=re.escape(message)):
        load_experiment(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FlowpriorError, match="no experiment file at"):
        read(tmp_path / "e.yaml")
    with pytest.raises(FlowpriorError, match="is a folder; name a file in it"):
        read(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_bytes("name: é\n".encode("utf-8-sig"))
    assert read(path) == {"name": "é"}


def test_files_and_changes_are_merged_as_snakemake_does(tmp_path):
    one, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text("data: {source: photos, resolution: 16}\nseed: 1\n")
    other.write_text("data: {resolution: 2e1}\n")
    assert merged([one, other], {"data": {"path": "x"}, "bits": "5"}) == {
        "data": {"source": "photos", "resolution": 20.0, "path": "x"},
        "seed": 1,
        "bits": "5",
    }
    with pytest.raises(FlowpriorError, match="data holds settings by name, got 3"):
        merged([one], {"data": 3})
    other.write_text("seed: 1\nseed: 2\n")
    with pytest.raises(FlowpriorError, match="'seed' stands already"):
        merged([one, other], {})
