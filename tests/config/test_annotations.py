"""One vocabulary: what a config is refused for from source files, a constructor refuses too, in the same words."""

import importlib
import sys

import pytest

from lightning_gen.config.signatures import check
from lightning_gen.config.source import signature, source

INF, NAN = float("inf"), float("nan")
VALUES = [
    *(0, 1, 2, 3, 7, -1, 1000, 0.0, 0.5, 1.0, -2.5, INF, -INF, NAN, True, False, None, "a", "b", "None", "", {}),
    *([], [0], [1], [1, 2], [1, 2, 3], [0.5, 1.0], [-1, 1], [NAN, 1], ["a"], ["c"], [[1]], [None], {"a": 1}),
]
ANNOTATIONS = [
    *("int", "float", "bool", "str", "None", "Count", "Natural", "Finite", "Positive", "NonNegative", "UnitInterval"),
    *("OpenUnitInterval", "Rate", "Counts", "Shape", "ValueRange", "Count | None", "Optional[Positive]", "Most"),
    *("Natural | Rate", "Union[Count, str]", 'Literal["a", "b"]', 'Literal["a", 3] | None', "Literal[True] | Positive"),
    *(
        "Annotated[int, Ge(4), MultipleOf(2)]",
        "Annotated[float, Gt(0)]",
        "Annotated[float, Gt(-math.inf), Lt(math.inf)]",
    ),
    *("Annotated[int, Interval(ge=-1, le=MOST)]", "Annotated[Count, Lt(3)]", "Annotated[float, at.Gt(0), 'unit']"),
    *("Annotated[Sequence[Count], Len(2, 2)]", "Annotated[list[float], MinLen(1), MaxLen(2)]", "Sequence[Rate]"),
    *("list", "list[int]", "Sequence[str] | None", "tuple[int, ...]", "tuple[Count, Positive]", "Iterable[int]"),
    *("dict", "Mapping[str, int]", "Callable[[int], int]", "type", "Base", "Base | Count", "Sequence[Base]", "Named"),
    *("Any", "object", '"Count | None"', 'Optional["Rate"]', "list[Literal['a', 'b']]", "float | Literal['a']"),
]
MODULE = """
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, Protocol, Union

import annotated_types as at
from annotated_types import Ge, Gt, Interval, Len, Lt, MaxLen, MinLen, MultipleOf

from lightning_gen.options import *

MOST = 5
Most = Annotated[int, Interval(ge=0, lt=MOST)]

class Base: ...
class Named(Protocol):
    name: str
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A module with a class for each annotation."""
    folder = tmp_path_factory.mktemp("shelf")
    classes = [f"class C{i}(Checked):\n    def __init__(self, x: {a}): ..." for i, a in enumerate(ANNOTATIONS)]
    (folder / "shelf.py").write_text(MODULE + "\n".join(classes))
    sys.path.insert(0, str(folder))
    yield importlib.import_module("shelf")
    sys.path.remove(str(folder))
    del sys.modules["shelf"]
    source.cache_clear()
    signature.cache_clear()


@pytest.mark.parametrize("number", range(len(ANNOTATIONS)), ids=ANNOTATIONS)
def test_a_config_and_a_constructor_agree_and_say_the_same(shelf, number, monkeypatch):
    # Of other packages no class is named.
    monkeypatch.setattr("lightning_gen.config.annotations.of_ours", lambda package: package == "shelf")
    refused = 0
    for value in VALUES:
        faults = check({"x": {"_target_": f"shelf.C{number}", "x": value}}, allowed=["shelf.*"])
        try:
            getattr(shelf, f"C{number}")(value)
        except (ValueError, TypeError) as error:
            assert len(faults) == 1, (value, str(error))
            said, (key, expected) = str(error), faults[0].split(f", shelf.C{number} expects ")
            refused += 1
            if isinstance(value, dict):
                assert key == "x.x is a mapping" and said.startswith(f"C{number}.x is {value} (dict), expected ")
            else:
                assert key == said.split(", expected ")[0].replace(f"C{number}.x", "x.x")
            # An object is passed in Python and named in a config.
            assert said.split(", expected ")[1].replace("pass ", "name ") == expected.replace(" in _target_", "")
        else:
            assert not faults, (value, faults)
    assert (refused > 0) == (ANNOTATIONS[number] not in ("Any", "object"))
    objects = ("Callable[[int], int]", "type", "Base", "Named")  # which no plain value is
    assert (refused < len(VALUES)) == (ANNOTATIONS[number] not in objects)


@pytest.mark.parametrize(
    ("node", "key"),
    [
        ({"_target_": "lightning_gen.nets.UNet", "shape": [1, 8, 8], "channels": -3}, "net.channels is -3"),
        ({"_target_": "lightning_gen.nets.MLP", "shape": [2], "scale": INF}, "net.scale is inf"),
        ({"_target_": "lightning_gen.nets.UNet", "shape": [1, 8, 8], "dropout": 1.0}, "net.dropout is 1.0"),
        ({"_target_": "lightning_gen.data.Digits", "val_size": 1437}, "net.val_size is 1437"),
        ({"_target_": "lightning_gen.data.Patches", "size": 65}, "net.size is 65"),
        ({"_target_": "lightning_gen.data.Folder", "path": "x", "test_size": 1.5}, "net.test_size is 1.5"),
        ({"_target_": "lightning_gen.process.VP", "beta_min": 0}, "net.beta_min is 0"),
        ({"_target_": "lightning_gen.process.cosine_betas", "steps": 0}, "net.steps is 0"),
    ],
)
def test_a_range_is_checked_before_anything_is_imported(node, key):
    (fault,) = check({"net": node})
    assert fault.startswith(f"{key} (")
