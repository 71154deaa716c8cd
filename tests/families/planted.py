"""Planted errors of the training step: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "EMA counts from 0",
        "lightning_gen/families/base.py",
        "(1 + step) / (10 + step)",
        "step / (9 + step)",
        "tests/families/test_base.py::test_the_average_follows_its_recursion_once_per_optimizer_step",
    ),
]
