"""Planted errors of the questions: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

CONDITIONED = "tests/questions/test_conditioned.py::"
PLANTS = [
    Plant(
        "the ratio of two densities upside down",
        "lightning_gen/questions/densities.py",
        "model.energy(b).double() - model.energy(a).double()",
        "model.energy(a).double() - model.energy(b).double()",
        "tests/questions/test_asking.py::test_an_energy_gives_the_ratio_without_its_constant",
    ),
    Plant(
        "a line integral over [-1, 1]",
        "lightning_gen/questions/densities.py",
        "total += float(weight) / 2 *",
        "total += float(weight) *",
        "tests/questions/test_asking.py::test_a_line_integral_of_the_score_is_the_ratio_of_two_densities",
    ),
    Plant(
        "x with noise, not scaled to the process",
        "lightning_gen/questions/scores.py",
        "model.denoise(expand(model.process.alpha(times), x) * x, times)",
        "model.denoise(x, times)",
        "tests/questions/test_asking.py::test_a_denoised_mean_is_the_posterior_mean_of_a_gaussian",
    ),
    Plant(
        "a log det that log q(y|x) is added to",
        "lightning_gen/questions/densities.py",
        "rows.append(model.log_prob(y) - log_q)",
        "rows.append(model.log_prob(y) + log_q)",
        "tests/questions/test_asking.py::test_a_dequantised_flow_bounds_the_probability_of_an_image",
    ),
    Plant(
        "lines for great circles",
        "lightning_gen/questions/latents.py",
        "torch.where((angle.sin() > 1e-4).expand_as(line), arc, line)",
        "line",
        "tests/questions/test_asking.py::test_great_circles_keep_the_length_of_codes",
    ),
    Plant(
        "a misfit without the half",
        "lightning_gen/questions/conditioned.py",
        ".sum(1) / (2 * sigma**2)",
        ".sum(1) / sigma**2",
        CONDITIONED + "test_metropolis_draws_the_exact_posterior_of_a_mixture",
    ),
    Plant(
        "a prefix that the law of later values does not see",
        "lightning_gen/questions/inpainting.py",
        "x = torch.where(known, start, model.fill(groups, x, i, generator))",
        "x = model.fill(groups, x, i, generator)",
        CONDITIONED + "test_a_prefix_is_completed_by_the_exact_conditionals",
    ),
    Plant(
        "a decoder's chain without its test",
        "lightning_gen/questions/inpainting.py",
        "z = torch.where(accepted[:, None], other, z)",
        "z = other",
        CONDITIONED + "test_the_missing_values_of_a_linear_decoder_have_their_gaussian_law",
    ),
    Plant(
        "RePaint's steps back without noise",
        "lightning_gen/questions/inpainting.py",
        "now = ratio * now + fresh**0.5 * noise_like(x, generator)",
        "now = ratio * now",
        CONDITIONED + "test_resampling_brings_repaint_nearer_to_the_missing_values_of_a_mixture",
    ),
    Plant(
        "moment matching without the noise of y",
        "lightning_gen/questions/inverse.py",
        "+ sigma**2 * torch.eye(",
        "+ 1e-6 * torch.eye(",
        CONDITIONED + "test_moment_matching_is_near_exact_for_gaussian_data",
    ),
    Plant(
        "moment matching at alpha = 0",
        "lightning_gen/questions/inverse.py",
        "min(transition.t, last)",
        "max(transition.t, last)",
        CONDITIONED + "test_moment_matching_needs_no_data_in_the_last_noise",
    ),
    Plant(
        "the score of data without the factor of their scale",
        "lightning_gen/questions/densities.py",
        "return alpha * model.score(alpha * x",
        "return model.score(alpha * x",
        "tests/questions/test_asking.py::test_a_velocitys_error_is_at_most_50_times_as_large_in_its_score",
    ),
    Plant(
        "an ascent that goes down",
        "lightning_gen/questions/modes.py",
        "moved = x + expand(eta, x) * score",
        "moved = x - expand(eta, x) * score",
        "tests/questions/test_modes.py::test_an_ascent_raises_the_density_of_a_mixture_to_a_stationary_maximum",
    ),
    Plant(
        "the least probable hidden units",
        "lightning_gen/questions/modes.py",
        "(model.logits(v) > 0)",
        "(model.logits(v) < 0)",
        "tests/questions/test_modes.py::test_the_most_probable_hidden_units_have_the_least_joint_energy",
    ),
]
