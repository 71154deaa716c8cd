"""The static check of configs: every kind of fault named, all at once, nothing heavy imported, no version drift."""

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from enum import Enum

import pytest

from lightning_gen.config.allow import ALLOWED, names, permitted, target_fault
from lightning_gen.config.signatures import check
from lightning_gen.config.source import signature, source

UNET = {"_target_": "lightning_gen.nets.UNet", "shape": [1, 8, 8]}
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True}
TRAINER = {"_target_": "pytorch_lightning.Trainer"}
FOLDER = {"_target_": "lightning_gen.data.Folder"}
PIXELS = {"_target_": "lightning_gen.metrics.PixelFeatures"}
QUALITY = {"_target_": "lightning_gen.callbacks.Quality", "features": PIXELS}
LOGGER = {"_target_": "pytorch_lightning.loggers.WandbLogger"}


def says(fault, words):
    """Whether a fault names its key first, then what was found and what would do, each a word of `words`."""
    key, *others = words.split()
    return fault.startswith(f"{key} ") and "\n" not in fault and all(word in fault for word in others)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"module": {"optimizer": ADAM | {"lr": "abc"}}}, "module.optimizer.lr 'abc' torch.optim.Adam float"),
        ({"trainer": TRAINER | {"max_step": 3}}, "trainer.max_step pytorch_lightning.Trainer max_steps?"),
        ({"x": {"_target_": "lightning_gen.data.Rings", "value_range": [0, 1]}}, "x.value_range Rings remove val_size"),
        ({"net": UNET | {"_partal_": True}}, "net._partal_ lightning_gen.nets.UNet _partial_?"),
        ({"net": {"_target_": "lightning_gen.nets.UNett"}}, "net._target_ lightning_gen.nets.UNett UNet?"),
        ({"net": {"_target_": "lightning_gen.net.UNet"}}, "net._target_ lightning_gen.net.UNet nets?"),
        ({"x": {"_target_": "torch.optim.Adamm"}}, "x._target_ torch.optim.Adamm torch.optim.Adam?"),
        ({"x": {"_target_": "torch.optim.adamw.AdamW"}}, "x._target_ torch.optim.adamw.AdamW torch.optim.AdamW?"),
        ({"net": {"_target_": 3}}, "net._target_ 3 lightning_gen.nets.UNet"),
        ({"net": {"_target_": "lightning_gen.nets.UNet"}}, "net.shape missing lightning_gen.nets.UNet"),
        ({"net": UNET | {"channels": "???"}}, "net.channels missing ???"),
        ({"steps": "???"}, "steps missing ???"),
        ({"net": UNET | {"_args_": [1]}}, "net._args_ lightning_gen.nets.UNet name"),
        ({"net": UNET | {"_partial_": "yes"}}, "net._partial_ 'yes' true false"),
        ({"net": UNET | {"_convert_": "al"}}, "net._convert_ 'al' none partial object all"),
        ({"net": UNET | {"channels": 32.0}}, "net.channels 32.0 float lightning_gen.nets.UNet int"),
        ({"net": UNET | {"channels": True}}, "net.channels True bool lightning_gen.nets.UNet int"),
        ({"net": UNET | {"channels": None}}, "net.channels None lightning_gen.nets.UNet int"),
        ({"net": UNET | {"classes": "None"}}, "net.classes 'None' lightning_gen.nets.UNet int null"),
        ({"net": UNET | {"multipliers": 2}}, "net.multipliers 2 lightning_gen.nets.UNet list int"),
        ({"n": UNET | {"multipliers": [1, "2"]}}, "n.multipliers '2' lightning_gen.nets.UNet list int"),
        ({"optimizer": ADAM | {"betas": [0.9]}}, "optimizer.betas [0.9] torch.optim.Adam list 2 float"),
        ({"optimizer": ADAM | {"amsgrad": 1}}, "optimizer.amsgrad 1 torch.optim.Adam bool"),
        ({"optimizer": ADAM | {"fused": "yes"}}, "optimizer.fused 'yes' torch.optim.Adam bool null"),
        (
            {"logger": LOGGER | {"log_model": "al"}},
            "logger.log_model 'al' pytorch_lightning.loggers.WandbLogger bool all?",
        ),
        (
            {"callbacks": [{"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": 3}]},
            "callbacks[0].monitor 3 pytorch_lightning.callbacks.EarlyStopping str",
        ),
        ({"trainer": TRAINER | {"profiler": {"a": 1}}}, "trainer.profiler mapping pytorch_lightning.Trainer str null"),
        ({"net": UNET | {"channels": dict(UNET)}}, "net.channels lightning_gen.nets.UNet int"),
        ({"data": FOLDER | {"path": None}}, "data.path None lightning_gen.data.Folder str"),
        ({"data": FOLDER | {"path": ["a"]}}, "data.path ['a'] lightning_gen.data.Folder str"),
        ({"quality": QUALITY | {"n": 0}}, "quality.n 0 lightning_gen.callbacks.Quality int >="),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.LambdaLR", "_partial_": True, "optimizer": 3}},
            "scheduler.optimizer 3 torch.optim.lr_scheduler.LambdaLR _target_",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_fault_is_one_sentence_with_its_remedy(config, words):
    (fault,) = check(config)
    assert says(fault, words)


def test_all_faults_come_at_once():
    config = {
        "net": UNET | {"chanels": 3, "groups": "8"},
        "trainer": TRAINER | {"max_step": 3, "callbacks": [{"_target_": "os.system", "command": "true"}]},
    }
    assert len(check(config)) == 4


@pytest.mark.parametrize(
    "config",
    [
        {"net": UNET | {"channels": 64, "multipliers": [1, 2], "classes": 10, "dropout": 0, "attention": []}},
        {"optimizer": ADAM | {"lr": 1, "betas": [0.9, 0.99], "fused": None, "eps": 1e-8}},
        {"trainer": TRAINER | {"precision": "bf16-mixed", "devices": [0, 1], "max_epochs": -1, "strategy": "auto"}},
        {"trainer": TRAINER | {"precision": 32, "logger": False, "limit_val_batches": 0.5, "profiler": None}},
        {"logger": LOGGER | {"entity": "somebody", "offline": True, "log_model": "all"}},
        {"v2": {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 0.5}},
        {"v2": {"_target_": "torchvision.transforms.v2.Compose", "transforms": [dict(UNET)]}},
        {"plain": {"a": 1, "b": [None, "x", {"c": True}]}},
        {"net": UNET | {"multipliers": {"_target_": "lightning_gen.losses.levels", "steps": 3}}},
    ],
)
def test_a_right_config_has_no_fault(config):
    assert check(config) == []


def test_arguments_that_the_program_gives_are_not_asked_for():
    config = {"net": {"_target_": "lightning_gen.nets.UNet", "shape": None}}
    assert check(config, {"net": {"shape"}}) == []
    assert check({"net": {"_target_": "lightning_gen.nets.UNet"}}, {"net": {"shape"}}) == []
    assert len(check(config)) == 1
    assert check({"net": {"_target_": "lightning_gen.nets.UNet", "_partial_": True}}) == []


def test_one_misspelling_is_one_fault():
    config = {"net": {"_target_": "lightning_gen.nets.UNet", "shap": [1, 8, 8]}}
    (fault,) = check(config)
    assert says(fault, "net.shap lightning_gen.nets.UNet shape?")


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("torch.optim.adam", "did you mean torch.optim.Adam?"),
        ("optim.Adam", "did you mean torch.optim.Adam?"),
        ("torch.nn.Linear", "choose a name of that list"),  # no class of another module stands in its place
    ],
)
def test_what_is_not_on_the_allow_list_is_near_a_name_of_its_module_or_has_none(target, remedy):
    assert target_fault(target).endswith(f": {remedy}")


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "shutil.copyfile",
        "os.system",
        "builtins.eval",
        "eval",
        "pathlib.Path.write_text",
        "subprocess.run",
        "hydra.utils.get_method",
        "pytorch_lightning.LightningModule.load_from_checkpoint",
        "pytorch_lightning.Trainer.fit",
        "lightning_gen.randomness.torch.load",
        "lightning_gen.randomness.hashlib.sha256",
        "lightning_gen.nets.unet.nn.Linear",
        "lightning_gen.config.source.Path",
        "lightning_gen.nets.unet._heights",
        "lightning_gen.nets.UNet.forward",
        "lightning_gen.config.allow.ALLOWED",
        "torchvision.transforms.v2.functional.torch.load",
        "torchvision.transforms.v2._utils.check_type",
        "lightning_gen..nets.UNet",
        "lightning_gen",
        "",
    ],
)
def test_nothing_else_can_be_called_from_a_config(target):
    assert not permitted(target)
    assert len(check({"x": {"_target_": target}})) == 1


def test_another_allow_list_replaces_the_default():
    assert check({"net": dict(UNET)}, allowed=["torch.optim.Adam"]) != []
    assert check({"net": dict(UNET)}, allowed=["lightning_gen.nets.UNet"]) == []
    assert check({"net": dict(UNET)}, allowed=lambda name: name.endswith("UNet")) == []
    assert check({"net": dict(UNET)}, allowed=lambda name: False) != []


PACKAGE = {
    "__init__": "from .parts import *\nfrom .parts import Base as Renamed\nfrom shop import parts as p\n",
    "parts": """
from typing import TYPE_CHECKING, Literal, Optional, Protocol, Union
from abc import ABC
if TYPE_CHECKING:
    from shop.other import Late
else:
    Late = 3
try:
    from shop.absent import Nothing
except ImportError:
    Nothing = None
Size = Union[int, tuple[int, ...]]
Way = Literal["left", "right"]
Ways = list[Way]

class Base(ABC):
    def __init__(self, size: Size, way: Way = "left", *, ways: Optional["Ways"] = None): ...

class Plain(Base):
    x = 1

class Loop(Plain, Protocol): ...

class Bare: ...

def function(a, late: "Late" = None, /, b: "Nothing" = 2, *rest, c: dict[str, int] = {}, **more): ...
""",
    "other": "class Late: ...\n",
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    (tmp_path / "shop").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    source.cache_clear()
    signature.cache_clear()


@pytest.mark.parametrize(
    ("node", "faults"),
    [
        ({"_target_": "shop.Plain", "size": [1, 2], "way": "right", "ways": ["left"]}, 0),
        ({"_target_": "shop.Plain", "size": [1, 2.0], "way": "rigt", "ways": ["up"]}, 3),
        ({"_target_": "shop.Renamed", "size": 3, "ways": None}, 0),
        ({"_target_": "shop.p.Loop", "size": 3, "way": None}, 1),
        ({"_target_": "shop.parts.Loop"}, 1),
        ({"_target_": "shop.Bare"}, 0),
        ({"_target_": "shop.Bare", "x": 1}, 1),
        ({"_target_": "shop.function", "b": "anything", "c": {}, "d": 1}, 0),
        ({"_target_": "shop.function", "c": 1}, 1),
        ({"_target_": "shop.Way"}, 1),
        ({"_target_": "shop.TYPE_CHECKING"}, 1),
        ({"_target_": "absentpackage.Thing"}, 1),
    ],
)
def test_aliases_bases_and_reexports_are_followed(shop, node, faults):
    found = check({"x": node}, allowed=["shop.*", "absentpackage.*"])
    assert len(found) == faults, found


def test_a_missing_package_is_named():
    (fault,) = check({"x": {"_target_": "absentpackage.Thing"}}, allowed=["absentpackage.*"])
    assert says(fault, "x._target_ absentpackage.Thing install")


def test_an_object_of_the_wrong_class_is_refused():
    ddpm = {"_target_": "lightning_gen.families.DDPM", "net": dict(UNET), "optimizer": dict(ADAM)}
    assert check({"module": ddpm | {"sampler": {"_target_": "lightning_gen.samplers.DDIM"}}}) == []
    (fault,) = check({"module": ddpm | {"sampler": dict(UNET)}})
    assert says(fault, "module.sampler lightning_gen.nets.UNet lightning_gen.families.DDPM Sampler null")


def test_nothing_heavy_is_imported():
    code = f"""
import sys
from lightning_gen.config.signatures import check
check({{"net": {UNET!r}, "optimizer": {ADAM!r}, "trainer": {TRAINER!r}, "logger": {LOGGER!r},
       "t": {{"_target_": "torchvision.transforms.v2.Resize", "size": 3}}}})
print(sorted({{"torch", "pytorch_lightning", "torchvision", "numpy", "wandb", "hydra"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def catalogue() -> list[str]:
    """Every name on the allow list: the named ones, and what `package.*` covers in the modules that define it."""
    found = [entry for entry in ALLOWED if not entry.endswith(".*")]
    paths = importlib.import_module("lightning_gen").__path__
    modules = [module.name for module in pkgutil.walk_packages(paths, "lightning_gen.")]
    listed = [f"{m}.{name}" for m in (*modules, "torchvision.transforms.v2") for name in names(m)]
    return found + [name for name in listed if permitted(name)]


HANDED = ("model", "loss", "optimizer")  # what families give GenerativeModule beside their options
FIXED = {
    "RBMContrastiveDivergence": ["l2"],
    "CIFAR10": ["binarise"],
    "Images": ["binarise"],
    "Patches": ["binarise"],
    "Factored": ["flip"],
} | {
    # callbacks that choose their own split
    name: ["split"]
    for name in ("EnergyPictures", "GivenQuality", "Modes", "Pictures", "Quality", "ScoreField")
}


def python_parameters(thing) -> list[tuple]:
    """(name, kind, required, nullable) of each argument, those included that **options hands on to the base class."""
    own = [
        (p.name, p.kind.name, p.default is p.empty and "VAR" not in p.kind.name, p.default is None)
        for p in inspect.signature(thing).parameters.values()
    ]
    if not own or own[-1][0] != "options":
        return own
    mine = {name for name, *_ in own} | {*HANDED, *FIXED.get(thing.__name__, [])}
    base = next(base for base in thing.__mro__[1:] if "__init__" in vars(base))
    return own[:-1] + [row for row in python_parameters(base) if row[0] not in mine]


def test_what_is_handed_on_is_checked_against_the_base_class():
    node = {"_target_": "lightning_gen.families.DDPM", "optimizer": ADAM}
    given = {"": {"net"}}
    assert check(node | {"guidance": 2.0, "channels_last": True}, given) == []
    for wrong, words in (
        ({"guidence": 2.0}, "guidence lightning_gen.families.DDPM guidance?"),
        ({"channels_last": 3}, "channels_last 3 lightning_gen.families.DDPM bool"),
        ({"loss": 3}, "loss lightning_gen.families.DDPM"),  # the family gives it itself
    ):
        (fault,) = check(node | wrong, given)
        assert says(fault, words)


def test_what_is_read_from_source_is_what_python_sees():
    targets = catalogue()
    assert len(targets) > 80
    assert {"lightning_gen.nets.UNet", "torch.optim.Adam", "torchvision.transforms.v2.Resize"} <= set(targets)
    differences, unread = [], []
    for target in targets:
        module, name = target.rsplit(".", 1)
        thing = getattr(importlib.import_module(module), name)
        mixin = "__new__" in vars(thing) and "__init__" not in vars(thing)
        if getattr(thing, "_is_protocol", False) or mixin:  # nobody builds one
            continue
        static = signature(target)
        if static is None:
            unread.append(thing)
            continue
        if python_parameters(thing) != [(p.name, p.kind, p.required, p.nullable) for p in static]:
            differences.append(target)
    assert not differences, " ".join(differences)
    assert all(dataclasses.is_dataclass(thing) or issubclass(thing, Enum | BaseException | tuple) for thing in unread)
