"""Planted errors of the losses and of their times: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "chains pulled down with the data",
        "lightning_gen/losses/contrastive.py",
        "loss = data - chains.mean()",
        "loss = data + chains.mean()",
        "tests/losses/test_contrastive.py::test_an_energy_network_learns_through_its_energies_and_not_through_the_chain",
    ),
    Plant(
        "the data's side of CD with the chains' sign",
        "lightning_gen/losses/contrastive.py",
        "full_like(data, 1 / len(v))",
        "full_like(data, -1 / len(v))",
        "tests/losses/test_contrastive.py::test_a_long_chains_gradient_is_the_likelihoods",
    ),
    Plant(
        "beta on the wrong term",
        "lightning_gen/losses/elbo.py",
        "self.beta * model.kl(mean, log_variance) - log_conditional",
        "model.kl(mean, log_variance) - self.beta * log_conditional",
        "tests/likelihood/test_importance.py::test_the_losses_are_the_bounds",
    ),
    Plant(
        "IWAE's mean inside the logarithm lost",
        "lightning_gen/losses/elbo.py",
        "math.log(self.samples) - weights.logsumexp(0)",
        "-weights.mean(0)",
        "tests/likelihood/test_importance.py::test_the_losses_are_the_bounds",
    ),
    Plant(
        "one half lost in exact score matching",
        "lightning_gen/losses/implicit.py",
        "0.5 * flat.square()",
        "flat.square()",
        "tests/losses/test_implicit.py::test_exact_is_half_the_square_and_the_trace_of_the_jacobian",
    ),
    Plant(
        "one half lost in sliced score matching",
        "lightning_gen/losses/implicit.py",
        "(v * row).flatten(1).sum(1) + 0.5 * square",
        "(v * row).flatten(1).sum(1) + square",
        "tests/losses/test_implicit.py::test_sliced_is_exact_in_expectation",
    ),
    Plant(
        "NCE's ratio forgotten",
        "lightning_gen/losses/nce.py",
        " - math.log(self.ratio)",
        "",
        "tests/losses/test_contrastive.py::test_nce_is_at_rest_where_energy_and_constant_are_true",
    ),
    Plant(
        "one half lost in the sum",
        "lightning_gen/losses/score_matching.py",
        "error.sum(1) / 2",
        "error.sum(1)",
        "tests/losses/test_denoising.py::test_reductions_are_ddpms_and_ncsns",
    ),
    Plant(
        "EDM's weight of the noise for that of x_0",
        "lightning_gen/losses/score_matching.py",
        "1 + 1 / (process.snr(t) * sigma_data**2)",
        "1 + process.snr(t) * sigma_data**2",
        "tests/losses/test_denoising.py::test_each_weight_is_the_error_of_what_it_is_named_for",
    ),
    Plant(
        "bound's weight without its one half",
        "lightning_gen/losses/score_matching.py",
        "return beta.square() / (2 * v",
        "return beta.square() / (v",
        "tests/losses/test_weights.py::test_the_bounds_weights_give_its_terms",
    ),
    Plant(
        "times off by one",
        "lightning_gen/losses/times.py",
        "torch.randint(first, steps + first,",
        "torch.randint(first - 1, steps + first - 1,",
        "tests/losses/test_denoising.py::test_levels_are_uniform_on_the_grid_and_never_zero",
    ),
    Plant(
        "EDM's levels with sigma^2 for sigma",
        "lightning_gen/losses/times.py",
        "(-2 * double(level)).exp()",
        "(-double(level)).exp()",
        "tests/losses/test_denoising.py::test_edms_levels_are_log_normal",
    ),
    Plant(
        "uniform times beyond 1",
        "lightning_gen/losses/times.py",
        "minimum + (1 - minimum) * torch.rand(",
        "minimum + torch.rand(",
        "tests/losses/test_denoising.py::test_uniform_times_stay_above_their_minimum",
    ),
    Plant(
        "a constant time halved",
        "lightning_gen/losses/times.py",
        "return instant(t, torch",
        "return instant(t / 2, torch",
        "tests/losses/test_weights.py::test_ncsns_sum_over_levels_is_the_simple_weight",
    ),
]
