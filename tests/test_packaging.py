"""The package asks for what it imports, and its lists of requirements agree."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
OWN = {"lightning_gen", "callbacks", "benchmarks", "run", "tests", "faulty"}  # the last one for the tests of check
# Where the name of an import is not that of its package; lightning_fabric comes inside pytorch-lightning.
PACKAGE = {
    "PIL": "pillow",
    "hydra": "hydra-core",
    "lightning_fabric": "pytorch-lightning",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def canonical(name):
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*patterns):
    """Packages that the files import, at any depth, but for ours and Python's own."""
    found = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            # pytest.importorskip("diffusers") is an import too.
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
                names.append(ast.literal_eval(node.args[0]))
            found |= {name.split(".")[0] for name in names}
    foreign = found - OWN - set(sys.stdlib_module_names)
    return {canonical(PACKAGE.get(name, name)) for name in foreign}


def requirements(text):
    """Package -> its line, of a list of requirements."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return {canonical(re.match(r"[\w.-]+", line)[0]): line for line in lines if line}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def optional(extras):
    """The packages of the extras that parts of the package import."""
    return {name for extra in ("flows", "compress", "features", "hf", "hub") for name in requirements(extras[extra])}


def test_the_requirements_are_what_is_imported(setup):
    needed, extras = setup["options"]["install_requires"], setup["options.extras_require"]
    imports = imported("run.py", "lightning_gen/**/*.py", "callbacks/**/*.py")
    assert {*requirements(needed), *optional(extras)} == imports


def test_the_test_extra_is_what_the_tests_import_besides(setup):
    needed = imported("tests/**/*.py") - set(requirements(setup["options"]["install_requires"]))
    extras, tools = setup["options.extras_require"], {"mypy", "ruff", "pytest-xdist", "setuptools"}
    assert set(requirements(extras["test"])) == needed | tools | optional(extras)


@pytest.mark.parametrize(
    "floor",
    ["torch>=2.10", "pytorch-lightning>=2.6.6", "hydra-core>=1.3.8,<1.4"],
    ids=lambda floor: floor.split(">")[0],
)
def test_floors_that_close_known_holes(setup, floor):
    assert floor in requirements(setup["options"]["install_requires"]).values()


def test_the_hashes_are_of_the_constraints():
    text = (ROOT / "hashes.txt").read_text().replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line[:1] not in ("#", "")]
    assert all(re.match(r"[\w.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}( |$)", line) for line in pins)
    pinned = {line.split("==")[0]: line.split()[0] for line in pins}
    for name, line in requirements((ROOT / "constraints.txt").read_text()).items():
        assert pinned.get(name, line) == line, "make hashes"
    assert {"torch", "numpy", "pytest"} <= pinned.keys()


def test_the_conda_environment_is_setup_cfg(setup):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{setup['options']['python_requires']}", "pip"]
    asked = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    assert sorted(pip["pip"]) == sorted(requirements(asked).values())


def test_constraints_name_one_version_of_every_requirement(setup):
    pinned = requirements((ROOT / "constraints.txt").read_text())
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned.values())
    asked = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    for name, line in requirements(asked).items():
        version = tuple(int(part) for part in pinned[name].split("==")[1].split("."))
        for relation, bound in re.findall(r"(>=|<)([\d.]+)", line):
            bound = tuple(int(part) for part in bound.split("."))
            assert version >= bound if relation == ">=" else version < bound, (line, pinned[name])


def test_every_folder_with_python_files_is_installed():
    """Without __init__.py a folder works in a checkout and is missing from an installation."""
    for package in ("lightning_gen", "callbacks"):
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path.parent


def test_nothing_of_ours_is_ignored_by_git(tmp_path):
    """A pattern like data/ once hid tests/data. Asked in a repository that tracks nothing: none is spared."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True, capture_output=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    ours = [
        path
        for folder in ("lightning_gen", "callbacks", "experiments", "tests")
        for path in ROOT.glob(f"{folder}/**/*")
    ]
    names = [str(path.relative_to(ROOT)) for path in ours if path.suffix in (".py", ".yaml")]
    assert len(names) > 200
    asked = ["git", "check-ignore", "--stdin"]
    ignored = subprocess.run(
        asked, input="\n".join([*names, "outputs/run"]), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.splitlines() == ["outputs/run"], ignored.stderr  # which shows that git was asked


def make(*words):
    """make WORDS; its exit code and output."""
    # An outer make hands its own words on by these.
    outer = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    done = subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_make_names_an_interpreter_that_is_too_old_or_missing(tmp_path):
    old = tmp_path / "old"
    # What it says is `Python 3.9.2`; every program that it is given fails.
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    code, output = make("demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert code and re.search("3.9.2.*3.11, 3.12 or 3.13", output)
    code, output = make("test", f"PYTHON={tmp_path / 'none'}", f"VENV={tmp_path / 'venv'}")
    assert code and str(tmp_path / "none") in output
    assert not (tmp_path / "venv").exists()


def test_make_installs_once(tmp_path):
    """With the stamps there nothing is left to do but the work itself; a newer setup.cfg installs again."""
    (tmp_path / ".uv").touch()
    (tmp_path / ".demo").touch()
    assert make("-n", "demo", f"VENV={tmp_path}")[1].strip() == f"{tmp_path}/bin/python run.py"
    assert "-c constraints.txt" in make("-n", "-W", "setup.cfg", "demo", f"VENV={tmp_path}")[1]
    assert "-e '.[test,slurm]'" in make("-n", "-W", "setup.cfg", "test-cluster", f"VENV={tmp_path}")[1]
    assert "--torch-backend" not in make("-n", "-W", "setup.cfg", "demo", f"VENV={tmp_path}")[1]
    assert "--torch-backend cpu" in make("-n", "-W", "setup.cfg", "demo", "TORCH=cpu", f"VENV={tmp_path}")[1]
    hashes = ("-W", "setup.cfg", "CONSTRAINTS=hashes.txt")
    assert "-c hashes.txt" in make("-n", *hashes, "demo", f"VENV={tmp_path}")[1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """What an installation is made from, as git has it: links stay links."""
    folder = tmp_path_factory.mktemp("sources") / "lightning-gen"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    for name in ("lightning_gen", "callbacks", "experiments", "tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=left_out)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "run.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def backend(call, folder, target):
    """The file that setuptools builds by build_wheel or build_sdist."""
    code = f"import setuptools.build_meta as b; print(b.{call}({str(target)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory):
    """The wheel of the source distribution."""
    target = tmp_path_factory.mktemp("dist")
    with tarfile.open(backend("build_sdist", sources, target)) as archive:
        archive.extractall(target, filter="data")
    (unpacked,) = target.glob("lightning_gen-*/")
    return backend("build_wheel", unpacked, target)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of an installation without its requirements."""
    target = tmp_path_factory.mktemp("installed")
    words = ["install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
    return target


def test_a_wheel_has_the_callbacks_and_the_experiments_under_our_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {name.split("/")[0].split("-")[0] for name in names} == {"lightning_gen"}
        for folder, pattern in (
            ("lightning_gen", "*.py"),
            ("callbacks", "*.py"),
            ("experiments", "*.yaml"),
            ("lightning_gen", "templates/*"),
        ):
            for file in (ROOT / folder).rglob(pattern):
                name = file.relative_to(ROOT).as_posix()
                name = name if folder == "lightning_gen" else f"lightning_gen/{name}"
                assert archive.read(name) == file.read_bytes(), name


TINY = ("module.steps=4", "sampler.steps=4", "net.channels=8", "net.groups=4", "trainer.max_steps=2", "quality=none")
TINY += (
    "callbacks.likelihood=null",
    "callbacks.pictures.n=4",
    "callbacks.pictures.strip=2",
    "callbacks.curves=null",
    "logger=none",
)


# It needs nets, models and families alone.
LOADED = """
import sys, lightning_gen
lightning_gen.load("outputs/ddpm_digits").sample(1)
assert not [name for name in sys.modules if name.startswith("lightning_gen.callbacks")]
print(lightning_gen.__file__)
"""


def test_the_installed_command_works_from_any_folder_beside_a_callbacks_of_the_users(installed, tmp_path):
    """Without the checkout; what lies in the folder that it is started from is the user's, and breaks nothing."""
    for name in ("callbacks", "experiments", "run", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the user\\'s own {name}')\n")
    path = os.pathsep.join([str(installed), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def started(*words):
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    command = str(installed / "bin" / "lightning-gen")
    done = started(command, "experiment=ddpm_digits", *TINY)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "ddpm_digits" / "report.html").is_file()
    wrong = started(command, "experiment=ddpm_cifr")
    assert wrong.returncode == 2 and "ddpm_cifar?" in wrong.stderr
    assert "cfg_digits, ddpm_cifar" in started(command, "--help").stdout
    loaded = started("-c", LOADED)
    assert loaded.returncode == 0 and loaded.stdout.startswith(str(installed)), loaded.stderr
