"""The tree: arrows between rooms run one way, modules make no circle, files stay short."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "lightning_gen"
# From below: a room imports rooms of lower rows, and itself.
FLOORS = (
    {"errors", "garbage", "heap", "options", "bar", "caching", "randomness"},
    {"discrete", "config"},
    {"process"},
    {"nets", "data", "metrics", "runs"},
    {"models"},
    {"samplers"},
    {"losses", "likelihood", "compression"},
    {"families", "results", "representations"},
    {"questions"},
    {"callbacks", "convert", "check"},
    {"stages"},
    {"__main__"},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
LIGHTNING = {"families", "data", "callbacks", "stages"}


@cache
def modules():
    """Dotted name -> file of every module of the package; lightning_gen/callbacks is a link that glob follows not."""
    files = [*ROOT.glob(f"{PACKAGE}/**/*.py")] + [*ROOT.glob("callbacks/**/*.py")]
    found = {}
    for file in files:
        parts = list(file.relative_to(ROOT).with_suffix("").parts)
        parts = [*([PACKAGE] if parts[0] == "callbacks" else []), *parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def imports(module):
    """What a module imports, anywhere in it, dotted; what only a type checker imports is left out."""
    found = set()
    todo = [ast.parse(modules()[module].read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return found


def module_of(name):
    """The module of ours that a dotted name is in; None for a foreign one."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


def room(module):
    return module.split(".")[1]


def ours():
    """(importer, imported) for all modules but the package's own front."""
    pairs = [(module, module_of(name)) for module in modules() for name in imports(module) if module != PACKAGE]
    return [(module, other) for module, other in pairs if other not in (None, PACKAGE, module)]


def test_arrows_run_one_way():
    assert len(modules()) > 100 and {room(module) for module in modules() if module != PACKAGE} == set(HEIGHT)
    wrong = {
        f"{module} imports {other}"
        for module, other in ours()
        if room(module) != room(other) and HEIGHT[room(module)] <= HEIGHT[room(other)]
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_modules_make_no_circle():
    graph = {module: set() for module in modules()}
    for module, other in ours():
        graph[module].add(other)
    list(TopologicalSorter(graph).static_order())


def test_stages_alone_import_callbacks():
    importers = {room(module) for module, other in ours() if room(other) == "callbacks"}
    assert importers == {"callbacks", "stages"}


@pytest.mark.parametrize(
    ("packages", "rooms"),
    [(("hydra", "omegaconf"), {"config"}), (("pytorch_lightning", "lightning_fabric"), LIGHTNING)],
)
def test_a_library_is_imported_where_it_belongs(packages, rooms):
    importers = {module for module in modules() if {name.split(".")[0] for name in imports(module)} & {*packages}}
    assert {room(module) for module in importers} == rooms, importers


def test_nothing_imports_by_a_former_name():
    for module in modules():
        assert not {name.split(".")[0] for name in imports(module)} & {"callbacks", "run", "tests"}, module


def test_no_file_is_long():
    files = [*modules().values(), ROOT / "run.py"]
    long = {str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text().splitlines())) > 310}
    assert not long


PATH = {
    "lightning_gen/process.py": ["expand", "Process", "ByLogAlpha", "DiscreteVP"],
    "lightning_gen/models/denoiser.py": ["noise", "Denoiser"],
    "lightning_gen/losses/score_matching.py": ["simple", "DenoisingScoreMatching"],
    "lightning_gen/losses/times.py": ["levels"],
    "lightning_gen/samplers/base.py": ["Transition", "Sampler"],
    "lightning_gen/samplers/diffusion.py": ["Posterior", "Ancestral"],
    "lightning_gen/families/base.py": ["GenerativeModule"],
    "lightning_gen/families/ddpm.py": ["DDPM"],
    "lightning_gen/stages/command.py": ["main", "job"],
    "lightning_gen/stages/session.py": ["Session"],
    "lightning_gen/stages/fit.py": ["fit"],
    "lightning_gen/stages/evaluate.py": ["evaluate"],
    "lightning_gen/stages/sample.py": ["sample"],
}


def test_a_newcomer_reads_the_whole_path_in_one_sitting():
    """Process, denoiser, loss, sampler, module and stages: DDPM's classes have fewer than 400 statements."""
    total = 0
    for file, names in PATH.items():
        body = {node.name: node for node in ast.parse((ROOT / file).read_text()).body if hasattr(node, "name")}
        for name in names:
            docstring = lambda n: isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)  # noqa: E731
            total += sum(isinstance(node, ast.stmt) and not docstring(node) for node in ast.walk(body[name]))
    assert 200 < total < 400, total
