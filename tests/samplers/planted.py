"""Planted errors of the samplers: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "exact samples added to the start",
        "lightning_gen/samplers/exact.py",
        "return model.draw(tuple(x.shape), generator).to(x.dtype), None",
        "return x + 2 * model.draw(tuple(x.shape), generator).to(x.dtype), None",
        "tests/models/test_flow.py::test_exact_samples_have_the_density",
    ),
    Plant(
        "slope by the level where it is by its logarithm",
        "lightning_gen/samplers/adaptive.py",
        "return level * noise",
        "return noise",
        "tests/samplers/test_ode.py::test_rk45_is_on_the_flow_at_every_time_that_it_shows",
    ),
    Plant(
        "sigma_min of a VE left in the samples",
        "lightning_gen/samplers/base.py",
        "alpha[-1], variance[-1] = 1.0, 0.0",
        "alpha[-1] = 1.0",
        "tests/samplers/test_ode.py::test_ancestral_steps_on_a_ve_are_the_papers",
    ),
    Plant(
        "fixed-small and fixed-large exchanged",
        "lightning_gen/samplers/diffusion.py",
        'self.variance == "small" else',
        'self.variance == "large" else',
        "tests/samplers/test_diffusion.py::test_ddpm_with_a_thousand_steps_leaves_the_known_divergence",
    ),
    Plant(
        "eta not squared",
        "lightning_gen/samplers/diffusion.py",
        "noise = self.eta * math.sqrt(fresh)",
        "noise = math.sqrt(self.eta * fresh)",
        "tests/samplers/test_diffusers.py::test_ddim_is_diffusers_ddim",
    ),
    Plant(
        "clip ignored",
        "lightning_gen/samplers/diffusion.py",
        "return clean if self.clip is None else clean.clamp_(*self.clip)",
        "return clean",
        "tests/samplers/test_diffusion.py::test_clipping_holds_the_clean_data_not_the_state",
    ),
    Plant(
        "the flow's velocity with the wrong sign",
        "lightning_gen/samplers/flow.py",
        "Transition(t, s, (s - t,),",
        "Transition(t, s, (t - s,),",
        "tests/samplers/test_flow.py::test_an_euler_step_is_ddims",
    ),
    Plant(
        "Heun's second slope at the old time",
        "lightning_gen/samplers/flow.py",
        "2: (0.0, 1.0),",
        "2: (0.0, 0.0),",
        "tests/samplers/test_flow.py::test_halving_the_step_divides_the_error_by_two_to_the_order",
    ),
    Plant(
        "Gibbs by probabilities for hidden units",
        "lightning_gen/samplers/gibbs.py",
        "h = bernoulli(logits.sigmoid(), generator)",
        "h = logits.sigmoid()",
        "tests/samplers/test_gibbs.py::test_gibbs_has_the_rbms_law",
    ),
    Plant(
        "inner steps that forget the first noise",
        "lightning_gen/samplers/gibbs.py",
        "(1 - ratio ** (2 * self.inner))",
        "(1 - ratio**self.inner)",
        "tests/samplers/test_gibbs.py::test_inner_steps_are_one_draw",
    ),
    Plant(
        "a whole kick at the end of HMC's leapfrogs",
        "lightning_gen/samplers/hmc.py",
        "(0.5 if i == self.leapfrogs - 1 else 1.0)",
        "1.0",
        "tests/samplers/test_hmc.py::test_one_leapfrog_is_mala",
    ),
    Plant(
        "draws of x and its means exchanged",
        "lightning_gen/samplers/latent.py",
        "float(not self.mean)",
        "float(self.mean)",
        "tests/models/test_vae.py::test_samples_of_a_linear_model_have_its_mean_and_covariance",
    ),
    Plant(
        "factor 2 in ULA's noise",
        "lightning_gen/samplers/mcmc.py",
        "math.sqrt(2 * eta * self.temperature)",
        "math.sqrt(eta * self.temperature)",
        "tests/samplers/test_mcmc.py::test_the_stationary_variance_is_biased_for_ula_and_right_for_mala",
    ),
    Plant(
        "MALA's reverse proposal with the wrong sign",
        "lightning_gen/samplers/metropolis.py",
        "log_q = 0.5 * z.flatten(1).square().sum(1) - reverse",
        "log_q = 0.5 * z.flatten(1).square().sum(1) + reverse",
        "tests/samplers/test_mcmc.py::test_mala_accepts_as_often_as_the_integral_says",
    ),
    Plant(
        "annealed step by sigma, not by its square",
        "lightning_gen/samplers/mcmc.py",
        "(sigma / sigmas[-1]) ** 2",
        "(sigma / sigmas[-1])",
        "tests/samplers/test_mcmc.py::test_the_papers_step_is_half_of_its_codes",
    ),
    Plant(
        "weights of Runge and Kutta",
        "lightning_gen/samplers/ode.py",
        "alpha * h * weight * factor",
        "alpha * h * factor",
        "tests/samplers/test_ode.py::test_halving_the_step_divides_the_error_by_two_to_the_order",
    ),
    Plant(
        "DPM-Solver's history with the wrong sign",
        "lightning_gen/samplers/ode.py",
        "(1 + extra), -pull * extra",
        "(1 - extra), pull * extra",
        "tests/samplers/test_ode.py::test_halving_the_step_divides_the_error_by_two_to_the_order",
    ),
    Plant(
        "churn's levels subtracted without squares",
        "lightning_gen/samplers/ode.py",
        "math.sqrt(max(raised**2 - current**2, 0.0))",
        "(raised - current)",
        "tests/samplers/test_ode.py::test_edms_algorithm_2_written_out",
    ),
    Plant(
        "drift's sign in the reverse SDE",
        "lightning_gen/samplers/sde.py",
        "(1 - f[i] * (t - s),",
        "(1 + f[i] * (t - s),",
        "tests/samplers/test_ode.py::test_euler_maruyama_is_the_reverse_sde",
    ),
    Plant(
        "factor 2 in the corrector",
        "lightning_gen/samplers/sde.py",
        "eta = 2 * transition.coefficients[0]",
        "eta = transition.coefficients[0]",
        "tests/samplers/test_corrector.py::test_corrections_alone_leave_the_noised_density_but_for_their_known_bias",
    ),
    Plant(
        "a value is drawn again and the last is not",
        "lightning_gen/samplers/sequential.py",
        "(float(i),)",
        "(float(max(i - 1, 0)),)",
        "tests/models/test_autoregressive.py::test_samples_have_the_models_law",
    ),
    Plant(
        "a generator's draws with the wrong sign",
        "lightning_gen/samplers/prior.py",
        "yield x",
        "yield -x",
        "tests/families/test_adversarial_ebm.py::test_the_generators_draws_start_and_are_the_samples",
    ),
    Plant(
        "E14: the slope of the score for the score",
        "lightning_gen/samplers/mcmc.py",
        'data without noise: write false")\n',
        """data without noise: write false")

    def step(self, model, x, transition, carry, generator):
        moved, carry = super().step(model, x, transition, carry, generator)
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            score = model.score(y, torch.tensor(transition.t))
            (slope,) = torch.autograd.grad(score.sum(), y)
        return moved + transition.coefficients[1] * (slope - score.detach()), carry
""",
        "tests/samplers/test_mcmc.py::test_both_conventions_are_one_chain",
    ),
    Plant(
        "E15: the end of a chain at level sigma for data",
        "lightning_gen/samplers/mcmc.py",
        "return [move] * self.steps + [last] * self.denoise",
        "return [move] * self.steps",
        "tests/samplers/test_mcmc.py::test_langevin_reaches_the_noised_density_and_tweedie_takes_the_noise_out",
    ),
    Plant(
        "E15: steps of finite size, all accepted",
        "lightning_gen/samplers/metropolis.py",
        "accept = u.log() < log_ratio",
        "accept = u.log() <= 0",
        "tests/samplers/test_mcmc.py::test_the_stationary_variance_is_biased_for_ula_and_right_for_mala",
    ),
    Plant(
        "E16: epsilon for eta",
        "lightning_gen/samplers/mcmc.py",
        'eta = self.step_size if self.convention == "eta" else self.step_size / 2',
        "eta = self.step_size",
        "tests/samplers/test_mcmc.py::test_both_conventions_are_one_chain",
    ),
    Plant(
        "E16: the code's step for the paper's",
        "lightning_gen/samplers/mcmc.py",
        '(size / 2, size) if self.step_rule == "v1"',
        '(size, 2 * size) if self.step_rule == "v1"',
        "tests/samplers/test_mcmc.py::test_the_papers_step_is_half_of_its_codes",
    ),
]
