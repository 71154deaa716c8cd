"""Planted errors of the training step: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

PLANTS = [
    Plant(
        "EMA counts from 0",
        "lightning_gen/families/average.py",
        "(1 + step) / (10 + step)",
        "step / (9 + step)",
        "tests/families/test_base.py::test_the_average_follows_its_recursion_once_per_optimizer_step",
    ),
    Plant(
        "average and model exchanged",
        "lightning_gen/families/average.py",
        "(*self.parameters, 1 - decay)",
        "(*self.parameters[::-1], 1 - decay)",
        "tests/families/test_base.py::test_the_average_follows_its_recursion_once_per_optimizer_step",
    ),
    Plant(
        "a state in another memory format",
        "lightning_gen/families/players.py",
        "value.stride() != parameter.stride()",
        "False",
        "tests/families/test_execution.py::test_a_state_of_another_memory_format_is_brought_to_the_weights",
    ),
    Plant(
        "the critic moves with the generator",
        "lightning_gen/families/optimisation.py",
        "toggle(self.players, player)",
        "None",
        "tests/families/test_players.py::"
        "test_the_critic_moves_on_each_batch_and_the_generator_on_every_third_and_counts",
    ),
    Plant(
        "gradients of one rank alone",
        "lightning_gen/families/optimisation.py",
        "average_over_ranks(player, trainer.world_size)",
        "None",
        "tests/families/test_players.py::test_two_ranks_take_the_step_of_the_mean_gradient",
    ),
    Plant(
        "noise alike on all ranks",
        "lightning_gen/families/base.py",
        'generator(self.seed, "noise", *address, device',
        'generator(self.seed, "noise", *address[:2], device',
        "tests/families/test_base.py::test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs",
    ),
    Plant(
        "the noise of the first samples for all",
        "lightning_gen/randomness.py",
        "generator(seed, purpose, unit, device=device) for unit",
        "generator(seed, purpose, 0, device=device) for unit",
        "tests/families/test_blocks.py::test_samples_are_the_same_whatever_the_size_of_blocks",
    ),
    Plant(
        "the gradient norm of one process's shards",
        "lightning_gen/families/optimisation.py",
        "norm = whole(torch.nn.utils.get_total_norm(gradients))",
        "norm = torch.nn.utils.get_total_norm([getattr(g, '_local_tensor', g) for g in gradients])",
        "tests/test_fsdp.py::test_training_is_that_of_ddp",
    ),
    Plant(
        "moments forgotten at a resume in shards",
        "lightning_gen/stages/fully_sharded.py",
        'optimizer.load_state_dict({**state, "state": parts})',
        'optimizer.load_state_dict({**state, "state": {}})',
        "tests/test_fsdp.py::test_a_resumed_run_is_the_uninterrupted_one_to_the_bit",
    ),
    Plant(
        "means of the posterior in the place of draws",
        "lightning_gen/families/latent.py",
        'coder.sample_posterior(*coder.posterior(batch["x"]), noise)',
        'coder.posterior(batch["x"])[0]',
        "tests/families/test_latent.py::test_a_batch_is_encoded_by_draws_of_the_posterior",
    ),
    Plant(
        "the critic's value as an energy in nats",
        "lightning_gen/families/adversarial_ebm.py",
        "self.unit = entropy or 1.0",
        "self.unit = 1.0",
        "tests/families/test_adversarial_ebm.py::test_the_energy_is_in_nats_whatever_the_weight_of_the_entropy",
    ),
    Plant(
        "the generator's entropy with the wrong sign",
        "lightning_gen/families/adversarial_ebm.py",
        "loss - self.entropy *",
        "loss + self.entropy *",
        "tests/families/test_adversarial_ebm.py::test_the_generator_descends_energy_less_entropy",
    ),
    Plant(
        "a slope for its square in the energy's penalty",
        "lightning_gen/families/adversarial_ebm.py",
        'slope(model.energy, batch["x"])',
        'slope(model.energy, batch["x"]).sqrt()',
        "tests/families/test_adversarial_ebm.py::test_the_penalty_is_half_of_the_squared_slope_on_the_data",
    ),
    Plant(
        "E18: ten levels in every dimension",
        "lightning_gen/families/ncsn.py",
        "return max(2, 1 + math.ceil(math.log(sigma_max / sigma_min) / math.log(low) - 1e-9))",
        "return 10",
        "tests/families/test_recipes.py::test_as_few_levels_as_overlap_enough",
    ),
]
