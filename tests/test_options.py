"""Options are checked by their annotation: what is accepted, what is refused, and that nothing else changes."""

import copy
import inspect
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Protocol

import numpy
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Len, MaxLen, MinLen, MultipleOf
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from torch import nn

import lightning_gen.nets
from lightning_gen.data import GenerativeData
from lightning_gen.metrics import FeatureExtractor, FrechetStatistics
from lightning_gen.options import (
    ARGUMENTS,
    Checked,
    Count,
    Counts,
    Finite,
    Natural,
    NonNegative,
    OpenUnitInterval,
    Positive,
    Rate,
    UnitInterval,
    ValueRange,
    checked,
    suggestion,
)
from lightning_gen.process import Process
from lightning_gen.representations.encoders import Representation

if TYPE_CHECKING:
    from fractions import Fraction

NAN, INF = math.nan, math.inf
MOST = 7


class Named(Protocol):
    name: str


def make(annotation: Any, value: Any, default: Any = inspect.Parameter.empty) -> None:
    """Call a constructor whose argument x has the annotation."""

    def __init__(self, x=default):
        pass

    __init__.__annotations__["x"] = annotation
    type("Options", (Checked,), {"__init__": __init__})(value)


KINDS = [
    # annotation, accepted, refused with ValueError, refused with TypeError
    (int, [0, -3, numpy.int64(3)], [], [1.0, True, "1", None, [1], torch.tensor(1), numpy.bool_(True)]),
    (float, [1, 1.5, NAN, INF, numpy.float32(1)], [], [False, "1", None, torch.tensor(1.0)]),
    (bool, [True, False], [], [0, 1, "true", None]),
    (str, ["", "a"], [], [1, None, ["a"], Path("a")]),
    (None, [None], [], [0, "null"]),
    (Count, [1, 10**9], [0, -1], [1.0, True, "1"]),
    (Natural, [0, 1], [-1], [0.0]),
    (Finite, [0, -1.5], [NAN, INF, -INF], ["1"]),
    (Positive, [1e-300, 3], [0, -1.0, NAN, INF], [True]),
    (Annotated[float, Gt(0)], [1.0, INF], [0.0, NAN], [None]),
    (NonNegative, [0, 2.5], [-1e-9, NAN, INF], ["0"]),
    (UnitInterval, [0, 0.5, 1], [-0.1, 1.1, NAN], [None]),
    (OpenUnitInterval, [0.5], [0, 1, NAN], [None]),
    (Rate, [0, 0.999], [1, 1.0, -1], [True]),
    (Annotated[int, Interval(ge=1, le=MOST)], [1, 7], [0, 8], [2.0]),
    (Annotated[int, Ge(4), MultipleOf(2)], [4, 6], [5, 2], ["4"]),
    (Annotated[Count, Interval(lt=5)], [1, 4], [0, 5], [1.5]),
    (Count | None, [None, 3], [0], ["None", 1.0]),
    (Natural | Rate, [0, 12, 0.5], [-1, 1.5], ["1"]),
    (Optional[Positive], [None, 1], [0], ["1"]),  # noqa: UP045
    (Literal["a", "b", 3], ["a", "b", 3], ["c", 4], [None, 3.0]),
    (Literal[True] | Positive, [True, 2.0], [False, -1], ["x"]),
    (Sequence[int], [[], [1], (1, 2), range(3), torch.Size([1])], [], [3, "12", [1.0], {1: 2}, torch.tensor([1])]),
    (Counts, [[1], (2, 3)], [[], [0], [1, -1]], [[1.5], 1, None]),
    (list[Literal["a", "b"]], [[], ["a"]], [["c"]], ["a", [1]]),
    (tuple[int, ...], [(), (1, 2), [3]], [], [(1.5,), 1]),
    (tuple[int, float], [(1, 2.5), [1, 2]], [], [(1,), (1, 2, 3), (1.5, 2), 1]),
    (ValueRange, [(-1, 1), [0.0, 1.0]], [(0, NAN), (-INF, 0)], [(1,), 1.0, "01"]),
    (Annotated[Sequence[float], Len(3, 3)], [[1, 2, 3]], [[1, 2]], [1]),
    (Annotated[list[int], MinLen(1), MaxLen(2)], [[1], [1, 2]], [[], [1, 2, 3]], [None]),
    (Iterable[str], [["a"], (x for x in "ab"), {"a"}], [], ["a", 3, [1]]),
    (Mapping[str, int], [{}, {"a": 1}], [], [[], 1]),
    (dict, [{}], [], [None, "a"]),
    (Callable[[int], int], [len, nn.Identity(), lambda x: x], [], [3, "len", None]),
    (type[nn.Module], [nn.Linear], [], [3, None]),
    (Named, [Path("a"), nn.Identity()], [], [1, None]),
    (nn.Module, [nn.Identity()], [], [3, None, "net", nn.Linear, torch.zeros(1)]),
    (nn.Module | Count, [nn.Identity(), 1], [0], [None]),
    (Sequence[nn.Module], [[nn.Identity()]], [], [[nn.Identity(), 3], nn.Identity()]),
    ("Count | None", [1, None], [0], ["1"]),
    (Optional["Count"], [1, None], [0], ["1"]),
    (Any, [1, None, "x", []], [], []),
    (object, [1, None, "x", []], [], []),
]


@pytest.mark.parametrize(("annotation", "right", "outside", "wrong"), KINDS, ids=[str(row[0]) for row in KINDS])
def test_an_argument_is_what_its_annotation_says(annotation, right, outside, wrong):
    for value in right:
        make(annotation, value)
    for error, values in ((ValueError, outside), (TypeError, wrong)):
        for value in values:
            with pytest.raises(error, match=r"^Options\.x is .*, expected .*: (write|pass|did you mean) .+") as refusal:
                make(annotation, value)
            assert type(refusal.value) is error
            if isinstance(value, int | float | str):
                assert f"Options.x is {value!r}" in str(refusal.value)


def test_a_default_is_not_checked_and_none_as_default_allows_none():
    make(Count, None, default=None)

    class Late(Checked):
        def __init__(self, size: Count = 0) -> None:
            self.size = size

    assert Late().size == 0
    with pytest.raises(ValueError, match="Late.size is 0"):
        Late(0)


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (Count, 0, "is 0 (int), expected int >= 1: write a whole number >= 1"),
        (Rate, 1.0, "is 1.0 (float), expected float in [0, 1): write a number in [0, 1)"),
        (Positive | None, INF, "is inf (float), expected finite float > 0 or null: write a finite number > 0"),
        (Positive | None, "None", "is 'None' (str), expected finite float > 0 or null: write null"),
        (Literal["euler", "heun"], "hein", "is 'hein' (str), expected one of euler, heun: did you mean heun?"),
        (Counts, [], "is [] (list), expected a list of at least 1: int >= 1: write a list of at least 1: int >= 1"),
        (nn.Module, 3, "is 3 (int), expected a Module: pass a Module"),
        (nn.Module, torch.zeros(1), "is a Tensor, expected a Module: pass a Module"),
    ],
)
def test_the_sentence_names_found_expected_and_remedy(annotation, value, said):
    with pytest.raises((ValueError, TypeError)) as refusal:
        make(annotation, value)
    assert str(refusal.value) == f"Options.x {said}"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dpm", "did you mean dpm_solver?"),  # which is less similar than ddim
        ("gibbs_", "did you mean gibbs_langevin?"),
        ("ann", "did you mean anneal or annealed_langevin?"),
        ("dim", "did you mean ddim?"),
        ("xyz", ""),
        ("", ""),
    ],
)
def test_a_suggestion_begins_with_the_word_or_is_the_most_similar(word, said):
    assert suggestion(word, ["gibbs_langevin", "ddim", "dpm_solver", "annealed_langevin", "anneal"]) == said


class Base(Checked):
    def __init__(self, steps: Count = 10, *, rate: Rate = 0.5) -> None:
        self.steps, self.rate = steps, rate


class Child(Base):
    def __init__(self, way: Literal["up", "down"] = "up", **options: Any) -> None:
        super().__init__(**options)
        self.way = way


class Silent(Child):
    """Has no constructor of its own."""


@pytest.mark.parametrize("cls", [Child, Silent])
def test_what_is_handed_on_is_checked_where_it_arrives(cls):
    given = {"way": "down", "steps": 2, "rate": 0.1}  # which is kept as it was given, too
    assert cls("down", steps=2, rate=0.1).__dict__ == {**given, ARGUMENTS: given}
    for options, key in (({"way": "left"}, "way"), ({"steps": 0}, "steps"), ({"rate": 1}, "rate")):
        with pytest.raises(ValueError, match=f"^{cls.__name__}.{key} is "):
            cls(**options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'pace'"):
        cls(pace=1)


def test_a_subclass_may_widen_or_narrow_what_it_takes():
    class Wide(Base):
        def __init__(self, steps: Count | None = None) -> None:
            super().__init__(10 if steps is None else steps)

    assert Wide(None).steps == 10
    with pytest.raises(ValueError, match="Wide.steps is 0"):
        Wide(0)


@dataclass
class Plain:
    size: Count
    way: Literal["a", "b"] = "a"


@pytest.mark.parametrize("parent", [nn.Module, LightningModule, LightningDataModule, Callback])
def test_the_mixin_stands_beside_the_library_classes(parent):
    class Thing(Checked, parent):
        def __init__(self, size: Count, net: nn.Module | None = None) -> None:
            super().__init__()
            self.size, self.net = size, net

    thing = Thing(3, net=nn.Identity())
    assert isinstance(thing.net, nn.Identity) and copy.deepcopy(thing).size == 3
    with pytest.raises(ValueError, match="Thing.size is 0"):
        Thing(0)
    with pytest.raises(TypeError, match="Thing.net is 3"):
        Thing(1, 3)


def test_dataclasses_and_functions_are_checked_by_a_decorator():
    options = checked(dataclass(Plain))
    assert options(2) == options(size=2, way="a")
    with pytest.raises(ValueError, match="Plain.size is 0"):
        options(0)

    @checked
    def draw(n: Count, *, scale: Positive = 1.0, **more: Any) -> float:
        """Doc."""
        return n * scale

    assert draw(2, scale=0.5, other="x") == 1.0 and draw.__doc__ == "Doc."
    with pytest.raises(ValueError, match="draw.n is 0"):
        draw(0)
    with pytest.raises(ValueError, match=r"draw.scale is 0"):
        draw(1, scale=0)


def test_signature_copies_and_pickles_stay_as_they_were():
    parameters = inspect.signature(Child).parameters
    assert list(parameters) == ["way", "options"] and parameters["way"].default == "up"
    assert Child.__init__.__qualname__ == "Child.__init__"
    child = Child(steps=3)
    child.steps = 0  # what a copy is made of is not an argument
    for again in (copy.copy(child), copy.deepcopy(child), pickle.loads(pickle.dumps(child))):
        assert type(again) is Child and again.__dict__ == child.__dict__


def test_an_annotation_may_name_what_stands_further_down():
    class Early(Checked):
        def __init__(self, other: "Later") -> None:
            self.other = other

    assert isinstance(Early(Later()).other, Later)
    with pytest.raises(TypeError, match="Early.other is a Base, expected a Later"):
        Early(Base())


class Later:
    pass


def test_a_name_that_only_a_type_checker_imports_is_not_checked():
    class Early(Checked):
        def __init__(self, other: "Fraction", count: "Count | Fraction" = 1) -> None:
            self.other = other, count

    assert Early(3, None).other == (3, None)


def test_nothing_heavy_is_imported():
    heavy = "[m for m in sys.modules if m.split('.')[0] in ('torch', 'numpy', 'pydantic') or 'lightning_gen.' in m]"
    code = f"import lightning_gen.options, sys; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['lightning_gen.options']"


def test_every_network_data_set_extractor_and_process_is_checked():
    names = set(lightning_gen.nets.__all__) - {"EncoderDecoder", "GeneratorCritic"}  # protocols
    networks = [getattr(lightning_gen.nets, name) for name in names]
    rooms = [GenerativeData, FeatureExtractor, FrechetStatistics, Process, Representation]
    assert all(issubclass(cls, Checked) for cls in [*networks, *rooms])
