"""Planted errors of what the callbacks measure: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "E19: an exact likelihood by a solver",
        "lightning_gen/callbacks/likelihood/base.py",
        'Result.of_mean(values, "estimate", unit',
        'Result.of_mean(values, "exact", unit',
        "tests/callbacks/likelihood/test_likelihood.py::test_points_have_exact_nats_and_nothing_is_drawn",
    ),
    Plant(
        "E29: the log of a mean weight as an unbiased estimate of log p",
        "lightning_gen/callbacks/likelihood/importance.py",
        'method, None, "lower bound", protocol)',
        'method, None, "estimate", protocol)',
        "tests/callbacks/likelihood/test_latent.py::test_the_bounds_are_those_of_dequantised_test_images",
    ),
    Plant(
        "E32: samples against the test set",
        "lightning_gen/callbacks/quality.py",
        "real = self.real(trainer, self.reference)",
        'real = self.real(trainer, "test")',
        "tests/callbacks/test_quality.py::test_the_numbers_are_those_of_exactly_n_images",
    ),
]
