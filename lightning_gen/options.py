"""Options checked by their annotation: range types, the mixin that checks a constructor's arguments, the messages.

Configs are checked by the same rules, with the same messages, from source files and so before anything is imported.
"""

import difflib
import functools
import inspect
import math
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt, MaxLen, MinLen, MultipleOf

Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Finite = Annotated[float, Gt(-math.inf), Lt(math.inf)]
Positive = Annotated[float, Gt(0), Lt(math.inf)]  # where infinity is allowed: Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0), Lt(math.inf)]
UnitInterval = Annotated[float, Interval(ge=0, le=1)]
OpenUnitInterval = Annotated[float, Interval(gt=0, lt=1)]
Rate = Annotated[float, Interval(ge=0, lt=1)]
Counts = Annotated[Sequence[Count], MinLen(1)]
Shape = Counts  # (C, H, W), or (D,) of points
ValueRange = tuple[Finite, Finite]
LocalPath = Annotated[str, "a file or folder that has to be on this machine"]
Levels = Annotated[int, Ge(2)]  # K, the number of values that a pixel may have

ARGUMENTS = "_arguments"  # where a `Checked` object keeps the arguments of its constructor
SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "None": "null"}
LISTS = {"list", "List", "Sequence", "Iterable", "Collection", "MutableSequence", "set", "Set", "frozenset"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
CALLS = {"Callable", "type", "Type", "partial"}
SEVERAL = (list, tuple, Sequence, Set)  # not an array or a tensor
TYPES = {"int": Integral, "float": Real, "bool": bool, "str": str, "None": type(None), "dict": Mapping}
PLAIN = (str, bool, int, float, list, tuple, dict, type(None))
COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
COMPARE["multiple of"] = lambda value, unit: value % unit == 0
BOUNDS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<", MultipleOf: "multiple of"}
LENGTHS = {MinLen: ">=", MaxLen: "<="}
WRITE = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a text"}
WRITE |= {"list": "a list, as [1, 2]", "tuple": "a list of that length", "dict": "a mapping", "object": ""}
WRITE |= {"None": "null", "any": "something else"}


class Kind(NamedTuple):
    """One alternative of an annotation.

    Args:
        name: int, float, bool, str, None, literal, list, tuple, dict, object or any.
        of: a literal's values, a class, the alternatives of a list's elements or of each element of a tuple.
        ranges: (comparison, bound) of a number, or of a list's length.
    """

    name: str
    of: Any = None
    ranges: tuple[tuple[str, float], ...] = ()


ANY = Kind("any")
Target = TypeVar("Target", bound=Callable)


def narrowed(kinds: Sequence[Kind], metadata: Iterable[Any]) -> list[Kind]:
    """The alternatives within the ranges of an `Annotated`; metadata other than ranges are ignored."""
    flat = [part for item in metadata for part in (item if isinstance(item, GroupedMetadata) else [item])]

    def ranges(symbols: dict[type, str]) -> tuple:
        known = [(symbols[type(part)], getattr(part, part.__match_args__[0])) for part in flat if type(part) in symbols]
        return tuple(known)

    added = {"int": ranges(BOUNDS), "float": ranges(BOUNDS), "list": ranges(LENGTHS)}
    return [kind._replace(ranges=kind.ranges + added.get(kind.name, ())) for kind in kinds]


def kinds_of(annotation: Any, names: Mapping[str, Any] | None = None) -> list[Kind]:
    """The alternatives of an annotation; a text is evaluated with `names`, and allows any value if it fails."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            return kinds_of(eval(annotation, {}, dict(names or {})), names)
        except (NameError, AttributeError, TypeError, SyntaxError):  # a name that only a type checker imports
            return [ANY]
    if annotation is None or annotation is type(None):
        return [Kind("None")]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [Kind("literal", list(parts))]
    if origin in (Union, types.UnionType):
        return [kind for part in parts for kind in kinds_of(part, names)]
    if origin is Annotated:
        return narrowed(kinds_of(parts[0], names), annotation.__metadata__)
    if annotation in (int, float, bool, str):
        return [Kind(annotation.__name__)]
    return _class_kinds(annotation, origin, parts, names)


def _class_kinds(annotation: Any, origin: Any, parts: tuple, names: Mapping[str, Any] | None) -> list[Kind]:
    """The alternatives of a class, or of a generic class with its parts in brackets."""
    name = getattr(origin or annotation, "__name__", "")
    if name in MAPPINGS | CALLS:
        return [Kind("dict" if name in MAPPINGS else "object")]
    if name == "tuple" and parts and parts[-1] is not ...:
        return [Kind("tuple", [kinds_of(part, names) for part in parts])]
    if name in LISTS | {"tuple"}:
        any_source = [Kind("object", Iterable)] * (name in ("Iterable", "Collection"))
        return [Kind("list", kinds_of(parts[0], names) if parts else [ANY]), *any_source]
    if not isinstance(annotation, type) or annotation in (object, Any):
        return [ANY]
    return [Kind("object", annotation if _supports_isinstance(annotation) else None)]


def _supports_isinstance(annotation: type) -> bool:
    """Whether isinstance works with the class: not with a protocol that is only for type checkers."""
    return getattr(annotation, "_is_runtime_protocol", True) or not getattr(annotation, "_is_protocol", False)


def is_instance(value: Any, kind: Kind) -> bool | None:
    """Whether the value is an instance of the kind's class; None for a kind without one."""
    if kind.name != "object":
        return None
    # A callable or a protocol has no class here: anything but a plain value of a config is allowed.
    return type(value) not in PLAIN and (kind.of is None or isinstance(value, kind.of))


def fits(value: Any, kinds: Sequence[Kind], decide: Callable[[Any, Kind], bool | None] = is_instance) -> bool:
    """Whether one of the alternatives allows the value; `decide` judges objects, and returns None for other kinds."""
    return any(_fits(value, kind, decide) for kind in kinds)


def _fits(value: Any, kind: Kind, decide: Callable) -> bool:
    name, of, ranges = kind
    if name == "any":
        return True
    if (answer := decide(value, kind)) is not None:
        return answer
    if name in ("int", "float"):
        number = isinstance(value, TYPES[name]) and not isinstance(value, bool)
        return number and all(COMPARE[symbol](value, bound) for symbol, bound in ranges)
    if name == "literal":
        return any(type(v) is type(value) and v == value for v in of)
    if name in ("tuple", "list"):
        return _values_fit(value, kind, decide)
    return isinstance(value, TYPES[name])


def _values_fit(value: Any, kind: Kind, decide: Callable) -> bool:
    """Whether a list has an allowed length, and each of its values fits."""
    name, of, ranges = kind
    if name == "tuple":
        same_length = isinstance(value, (list, tuple)) and len(value) == len(of)
        return same_length and all(fits(v, k, decide) for v, k in zip(value, of, strict=True))
    if not isinstance(value, SEVERAL) or isinstance(value, (str, bytes)):
        return False
    length_fits = all(COMPARE[symbol](len(value), bound) for symbol, bound in ranges)
    return length_fits and (of == [ANY] or all(fits(v, of, decide) for v in value))


def words(kinds: Sequence[Kind]) -> str:
    """The alternatives in words, such as "int >= 1 or null"; classes only where nothing simpler is allowed."""
    values = [value for kind in kinds if kind.name == "literal" for value in kind.of]
    rest = [kind for kind in kinds if kind.name not in ("literal", "None")]
    simple = [kind for kind in rest if kind.name != "object"]
    others = dict.fromkeys(_word(kind) for kind in (simple or ([] if values else rest)))
    choices = ["one of " + ", ".join(dict.fromkeys(map(str, values)))] if values else []
    return " or ".join([*choices, *others] + ["null"] * any(kind.name == "None" for kind in kinds))


def _word(kind: Kind) -> str:
    name, of, ranges = kind
    if name in SCALARS:
        return with_bounds(SCALARS[name], ranges)
    if name == "object":
        return f"a {class_name(of)}"
    if name == "tuple":
        return f"a list of {len(of)}: {', '.join(words(part) for part in of)}"
    if name == "list":
        least, most = (dict(ranges).get(symbol) for symbol in (">=", "<="))
        length = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
        parts = [str(most) if ranges and least == most else " and ".join(length), "" if of == [ANY] else words(of)]
        parts = [part for part in parts if part]
        return f"a list of {': '.join(parts)}" if parts else "a list"
    return {"dict": "a mapping", "any": "anything"}[name]


def with_bounds(noun: str, ranges: Sequence[tuple[str, float]]) -> str:
    """A noun followed by the bounds of its values: "int >= 1", "finite float > 0", "float in [0, 1)"."""
    if any(abs(bound) == math.inf for _, bound in ranges):
        noun = noun.replace("float", "finite float").replace("number", "finite number")
    bounds = [(symbol, bound) for symbol, bound in ranges if abs(bound) != math.inf]
    low, high = ([pair for pair in bounds if pair[0][0] == sign] for sign in "><")
    if low and high:
        (above, least), (below, most) = low[-1], high[-1]
        interval = f" in {'[' if above == '>=' else '('}{least}, {most}{']' if below == '<=' else ')'}"
    else:
        interval = "".join(f" {symbol} {bound}" for symbol, bound in low + high)
    return noun + interval + "".join(f", a {s} {b}" for s, b in bounds if s == "multiple of")


def class_name(of: Any) -> str:
    """Name of a class, imported or parsed from source; "class or function" for None, which allows any object."""
    return "class or function" if of is None else getattr(of, "__name__", None) or of.name


def remedy(value: Any, kinds: Sequence[Kind], object_remedy: str = "pass {}") -> str:
    """The remedy that ends a message, "write 1"; `object_remedy` is the one for an object, {} its class."""
    literals = [v for kind in kinds if kind.name == "literal" for v in kind.of]
    # A number beside a range of numbers, as -1 for no limit, is not what another number was to be.
    numbers = any(kind.name in ("int", "float") for kind in kinds)
    choices = [str(v) for v in literals if isinstance(v, str) or not numbers]
    if any(kind.name == "None" for kind in kinds) and str(value).lower() in ("none", "nil", "~"):
        return "write null"
    if choices:
        return suggestion(str(value), choices) or f"write {choices[0]}"
    return _first_remedy(value, kinds, object_remedy)


def _first_remedy(value: Any, kinds: Sequence[Kind], object_remedy: str) -> str:
    """The remedy by the simplest of the alternatives."""
    allowed = {kind.name: kind for kind in reversed(kinds)}
    first = next(allowed[name] for name in WRITE if name in allowed)
    if first.name == "object":
        objects = dict.fromkeys(class_name(kind.of) for kind in kinds if kind.name == "object")
        return object_remedy.format(f"a {' or '.join(objects)}")
    if first.name == "list":
        return f"write {_word(first) if isinstance(value, SEVERAL) else WRITE['list']}"
    return f"write {with_bounds(WRITE[first.name], first.ranges)}"


def suggestion(word: str, choices: Sequence[str]) -> str:
    """The question "did you mean X?": the choices that begin with the word, else the most similar; "" for none."""
    begun = sorted({choice for choice in choices if word and choice.startswith(word)})
    close = begun or difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else ""


def choose(word: str, choices: Sequence[str]) -> str:
    """The nearest choice, or all of them."""
    return suggestion(word, choices) or (f"choose one of {', '.join(sorted(choices))}" if choices else "remove it")


def value_and_type(value: Any) -> str:
    """A plain value with its type, such as "0 (int)"; the class of any other object."""
    name, text = type(value).__name__, repr(value) if type(value) in PLAIN else ""
    return f"{text if len(text) <= 200 else f'{text[:200]}...'} ({name})" if text else f"a {name}"


def _plain(kinds: Sequence[Kind]) -> list[Kind]:
    """The alternatives without ranges and choices: a value that does not fit them has the wrong type."""
    plain = [Kind(type(value).__name__) for kind in kinds if kind.name == "literal" for value in kind.of]
    for kind in kinds:
        of = [_plain(part) for part in kind.of] if kind.name == "tuple" else kind.of
        plain += [] if kind.name == "literal" else [Kind(kind.name, _plain(of) if kind.name == "list" else of)]
    return plain


class Checked:
    """Base of classes whose constructor arguments are compared with their annotations: ValueError or TypeError.

    Arguments that a class passes to its base as **options are checked there. For functions and dataclasses: `@checked`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = _checking(cls.__init__, bound=True)


def checked(target: Target) -> Target:
    """Decorator: the function or class, whose arguments are now compared with their annotations."""
    if not isinstance(target, type):
        return _checking(target, bound=False)
    target.__init__ = _checking(target.__init__, bound=True)
    return target


def _checking(function: Callable, bound: bool) -> Any:
    @functools.cache
    def rules() -> tuple[list[str], dict[str, list[Kind]]]:
        """Positional names and the alternatives of each argument; at the first call, when the module is complete."""
        names, table = [], {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.annotation is not parameter.empty:
                nullable = [Kind("None")] * (parameter.default is None)
                table[name] = kinds_of(parameter.annotation, function.__globals__) + nullable
            if parameter.kind is not parameter.KEYWORD_ONLY:
                names.append(name)
        return names, table

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        names, table = rules()
        if bound:  # of the class itself, which is called before its bases
            vars(args[0]).setdefault(ARGUMENTS, dict(zip(names[1:], args[1:], strict=False)) | options)
        for name, value in (*zip(names, args, strict=False), *options.items()):
            if name in table and not fits(value, table[name]):
                owner = type(args[0]).__name__ if bound else function.__name__
                refusal = ValueError if fits(value, _plain(table[name])) else TypeError
                expected = f"{words(table[name])}: {remedy(value, table[name])}"
                raise refusal(f"{owner}.{name} is {value_and_type(value)}, expected {expected}")
        return function(*args, **options)

    return call
