"""Planted errors of the processes and of the models: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "velocity's sign",
        "lightning_gen/models/denoiser.py",
        "return alpha / total, -sigma / total, torch.ones_like(t), process.network_time(t)",
        "return alpha / total, sigma / total, torch.ones_like(t), process.network_time(t)",
        "tests/models/test_score.py::test_every_parametrization_of_the_truth_is_the_truth",
    ),
    Plant(
        "EDM's c_in",
        "lightning_gen/models/denoiser.py",
        "total.rsqrt() / alpha, level.log() / 4",
        "1 / total / alpha, level.log() / 4",
        "tests/models/test_score.py::test_edm_scales_input_and_target_to_unit_variance",
    ),
    Plant(
        "confining term's sign",
        "lightning_gen/models/energy.py",
        "energy + norm(x, x / self.confine)",
        "energy - norm(x, x / self.confine)",
        "tests/models/test_energy.py::test_a_linear_network_is_a_gaussian",
    ),
    Plant(
        "Gaussian machine with sigma for sigma squared",
        "lightning_gen/models/gaussian_rbm.py",
        "v.flatten(1) / self.variance,",
        "v.flatten(1) / self.variance.sqrt(),",
        "tests/models/test_rbm.py::test_a_gaussian_machine_is_its_mixture",
    ),
    Plant(
        "guidance with w for 1 + w",
        "lightning_gen/models/guidance.py",
        "return none + self.scale * (",
        "return none + (1 + self.scale) * (",
        "tests/models/test_guidance.py::test_scores_mix_as_the_papers_w_says",
    ),
    Plant(
        "score's sign",
        "lightning_gen/models/score.py",
        "-self.noise(x, t) / expand(",
        "self.noise(x, t) / expand(",
        "tests/models/test_score.py::test_one_reading_gives_the_other_two",
    ),
    Plant(
        "KL without its log-variance",
        "lightning_gen/models/vae.py",
        ".exp() - 1 - log_variance)",
        ".exp() - 1)",
        "tests/models/test_vae.py::test_weights_and_divergence_are_those_of_the_written_densities",
    ),
    Plant(
        "beta off by one",
        "lightning_gen/process.py",
        "self.table = torch.cat([torch.zeros(1, dtype=torch.float64), log_alpha])",
        "self.table = torch.cat([torch.zeros(2, dtype=torch.float64), log_alpha[:-1]])",
        "tests/test_process.py::test_discrete_chain_is_the_product_of_its_steps",
    ),
    Plant(
        "missing square root",
        "lightning_gen/process.py",
        "self.variance(t).sqrt()",
        "self.variance(t)",
        "tests/test_process.py::test_subvp_sigma_is_the_square_of_vps",
    ),
    Plant(
        "drift's sign",
        "lightning_gen/process.py",
        "drift = derivative(log_alpha, t)",
        "drift = -derivative(log_alpha, t)",
        "tests/test_process.py::test_the_sde_reproduces_mean_and_variance",
    ),
    Plant(
        "VE ignores its start",
        "lightning_gen/process.py",
        "else exponent.expm1()",
        "else exponent.exp()",
        "tests/test_process.py::test_ve_says_what_its_first_level_is",
    ),
    Plant(
        "VE starts from N(0, I)",
        "lightning_gen/process.py",
        "float(self.sigma(torch.ones((), dtype=torch.float64)))",
        "1.0",
        "tests/models/test_score.py::test_prior_and_its_density_agree",
    ),
]
