"""Planted errors: each small mistake in the code, and the one test that has to fail for it.

python -m tests.planted [words of a name] plants them one after the other, each in a copy of the repository, and prints
what caught it. TABLE reads like a diff: under `## file | file of tests`, a line `name @ test`, then what is taken out
and what is put in.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("lightning_gen", "callbacks", "experiments", "tests", "run.py", "pyproject.toml")

TABLE = """\
## lightning_gen/process.py | tests/test_process.py
beta off by one @ test_discrete_chain_is_the_product_of_its_steps
-self.table = torch.cat([torch.zeros(1, dtype=torch.float64), log_alpha])
+self.table = torch.cat([torch.zeros(2, dtype=torch.float64), log_alpha[:-1]])
missing square root @ test_subvp_sigma_is_the_square_of_vps
-return self.variance(t).sqrt()
+return self.variance(t)
drift's sign @ test_the_sde_reproduces_mean_and_variance
-drift = derivative(log_alpha, t)
+drift = -derivative(log_alpha, t)
diffusion's sign @ test_the_sde_reproduces_mean_and_variance
-derivative(variance, t) - 2 * drift * variance
+derivative(variance, t) + 2 * drift * variance
half of the integral of beta lost @ test_vp_has_drift_half_beta_and_diffusion_beta
-return -0.25 * t.square() * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min
+return -0.5 * t.square() * (self.beta_max - self.beta_min) - t * self.beta_min
VE ignores its start @ test_ve_says_what_its_first_level_is
-growth = exponent.exp() if self.start == "sigma_min" else exponent.expm1()
+growth = exponent.exp()
VE starts from N(0, I) @ tests/models/test_score.py::test_prior_and_its_density_agree
-return float(self.sigma(torch.ones((), dtype=torch.float64)))
+return 1.0
network index off by one @ test_the_network_is_told_whole_indices_in_single_precision
-return snap(self.steps * t) - 1
+return snap(self.steps * t)
single precision's rounding told to the network @ test_the_network_is_told_whole_indices_in_single_precision
-return torch.where(close, position + (nearest - position.detach()), position)
+return position
## lightning_gen/models/score.py | tests/models/test_score.py
Tweedie with sigma for its square @ test_one_reading_gives_the_other_two
-return (x + expand(variance, x) * self.score(x, t)) / expand(alpha, x)
+return (x + expand(variance.sqrt(), x) * self.score(x, t)) / expand(alpha, x)
score's sign @ test_one_reading_gives_the_other_two
-return -self.noise(x, t) / expand(self.process.sigma(t), x)
+return self.noise(x, t) / expand(self.process.sigma(t), x)
prior's density without sigma @ test_prior_and_its_density_agree
-math.log(sigma * math.sqrt(2 * math.pi))
+math.log(math.sqrt(2 * math.pi))
## lightning_gen/models/denoiser.py | tests/models/test_score.py
velocity's sign @ test_every_parametrization_of_the_truth_is_the_truth
-return alpha / total, -sigma / total, torch.ones_like(t), process.network_time(t)
+return alpha / total, sigma / total, torch.ones_like(t), process.network_time(t)
EDM's c_in @ test_edm_scales_input_and_target_to_unit_variance
-total.rsqrt() / alpha, level.log() / 4
+1 / total / alpha, level.log() / 4
noise read by the network's output alone @ test_every_parametrization_of_the_truth_is_the_truth
-return expand((1 - alpha * c_skip) / sigma, x) * x - expand(alpha * c_out / sigma, x) * output
+return -expand(alpha * c_out / sigma, x) * output
## lightning_gen/losses/score_matching.py | tests/losses/test_denoising.py
one half lost in the sum @ test_reductions_are_ddpms_and_ncsns
-error.sum(1) / 2
+error.sum(1)
weight of x_0 upside down @ test_each_weight_is_the_error_of_what_it_is_named_for
-return 1 / process.snr(t)
+return process.snr(t)
## lightning_gen/losses/times.py | tests/losses/test_denoising.py
levels with 0 @ test_levels_are_uniform_on_the_grid_and_never_zero
-torch.randint(1, steps + 1,
+torch.randint(0, steps + 1,
levels without T @ test_levels_are_uniform_on_the_grid_and_never_zero
-torch.randint(1, steps + 1,
+torch.randint(1, steps,
times off by one @ test_levels_are_uniform_on_the_grid_and_never_zero
-torch.randint(1, steps + 1,
+torch.randint(0, steps,
## lightning_gen/samplers/diffusion.py | tests/samplers/test_diffusion.py
fixed-small and fixed-large exchanged @ test_ddpm_with_a_thousand_steps_leaves_the_known_divergence
-if self.variance == "small" else fresh
+if self.variance == "large" else fresh
noise in the last ancestral step @ test_ancestral_steps_are_the_papers
-noise = 0.0 if s == 0 else math.sqrt(variance)
+noise = math.sqrt(variance)
variance for standard deviation @ test_ancestral_steps_are_the_papers
-noise = 0.0 if s == 0 else math.sqrt(variance)
+noise = 0.0 if s == 0 else variance
posterior's coefficient of x_t @ test_ancestral_steps_are_the_papers
-(ratio * sigma_s**2 / sigma_t**2,
+(ratio * sigma_s / sigma_t,
posterior's coefficient of x_0 @ test_ancestral_steps_are_the_papers
-alpha_s * fresh / sigma_t**2, noise
+alpha_s * fresh / sigma_t, noise
step without its noise @ test_the_sampler_draws_the_moments_that_its_plan_says
-return mean + noise * torch.randn(
+return mean + 0 * torch.randn(
eta not squared @ tests/samplers/test_diffusers.py::test_ddim_is_diffusers_ddim
-noise = self.eta * math.sqrt(fresh)
+noise = math.sqrt(self.eta * fresh)
eta's root missing @ test_ddim_with_eta_one_is_ancestral
-noise = self.eta * math.sqrt(fresh)
+noise = self.eta * fresh
fresh noise not taken out of the old @ test_ddim_with_eta_one_is_ancestral
-keep = math.sqrt(sigma_s**2 - noise**2) / sigma_t
+keep = sigma_s / sigma_t
noise in the last step of DDIM @ test_ddim_with_eta_one_is_ancestral
-noise if s > 0 else 0.0)
+noise)
DDIM keeps the noise of the x_0 that was not clipped @ test_ddim_with_eta_one_is_ancestral
-mean = keep * x + pull * self.clean(model, x, transition.t)
+alpha = float(model.process.alpha(instant(transition.s, x[:1]))) if isinstance(self, DDIM) else pull
+        raw = model.denoise(x, instant(transition.t, x))
+        mean = keep * x + alpha * clip_to(raw, self.clip) + (pull - alpha) * raw
clip ignored @ test_clipping_holds_the_clean_data_not_the_state
-return x if clip is None else x.clamp(clip[0], clip[1])
+return x
## lightning_gen/likelihood/bound.py | tests/likelihood/test_bound.py
clipping inside the likelihood @ test_every_term_is_the_divergence_that_it_is_named_for
-noise, instant(t, x))
+noise, instant(t, x)).clamp(-1, 1)
decoder's bins of 1/256 @ test_the_decoder_is_a_probability_over_256_values
-half = (high - low) / 510
+half = (high - low) / 512
wrong variance ratio @ test_every_term_is_the_divergence_that_it_is_named_for
-else true / fresh
+else fresh / true
wrong prior in the bound @ test_every_term_is_the_divergence_that_it_is_named_for
-return 0.5 * (variance - 1 - variance.log() + means)
+return 0.5 * (means / variance)
decoder without noise of its own @ test_every_term_is_the_divergence_that_it_is_named_for
-else first_posterior(process)
+else math.sqrt(fresh)
## lightning_gen/metrics/kernel.py | tests/metrics/test_kernel.py
KID with its diagonal @ test_equal_laws_are_at_zero_and_a_diagonal_would_show
-a, b = xx.sum(1) - xx.diagonal(), yy.sum(1) - yy.diagonal()
+a, b = xx.sum(1), yy.sum(1)
## lightning_gen/metrics/frechet.py | tests/metrics/test_frechet.py
N for N - 1 @ test_covariance_divides_by_n_minus_1
-torch.outer(s, s) / count) / (count - 1)
+torch.outer(s, s) / count) / count
FID's mean not squared @ test_commuting_gaussians_have_the_closed_form
-float(shift.square().sum() +
+float(shift.norm() +
FID without its cross term @ test_plane_gaussians_that_do_not_commute
-(left - right @ (p @ q))
+(left - right)
## lightning_gen/metrics/inception_score.py | tests/metrics/test_inception_score.py
diversity's sign @ test_limits
-torch.special.entr(c.mean(0)).sum()
+-torch.special.entr(c.mean(0)).sum()
## lightning_gen/families/base.py | tests/families/test_base.py
EMA counts from 0 @ test_the_average_follows_its_recursion_once_per_optimizer_step
-else self.ema_decay
+else self.ema_decay
+            decay = min(self.ema_decay, step / (9 + step)) if self.ema_warmup else decay
EMA before the step @ test_the_average_follows_its_recursion_once_per_optimizer_step
-get_ema_multi_avg_fn(decay)(*self.averages, step)
+before = getattr(self, "before", self.averages[0])
+                get_ema_multi_avg_fn(decay)(self.averages[0], before, step)
+                self.before = [p.detach().clone() for p in self.model.parameters()]
EMA's roles exchanged @ test_the_average_follows_its_recursion_once_per_optimizer_step
-(*self.averages, step)
+(*self.averages[::-1], step)
blocks without their number @ test_any_number_of_ranks_draws_the_same_samples
-noise = generator(seed, "sample", block,
+noise = generator(seed, "sample",
last block not cut @ test_any_number_of_ranks_draws_the_same_samples
-x[: n - index * size]
+x
dropout in sampling @ test_sampling_uses_the_average_without_dropout_and_leaves_modes_and_generators
-        model.eval()
+        model.train()
raw weights for the average @ test_sampling_uses_the_average_without_dropout_and_leaves_modes_and_generators
-return self.model if self.ema is None else self.ema
+return self.model
what is not finite takes the step @ test_what_is_not_finite_never_reaches_the_weights
-        else:
-            self.health.stop(self.trainer)
+        else:
+            pass
samples not looked at @ test_samples_that_are_not_finite_are_an_error
-if not torch.isfinite(x).all():
+if False:
gradients not clipped @ test_gradients_are_clipped_by_the_trainers_own_key
-torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
+pass
noise without rank @ test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs
-generator(self.seed, "noise", *place, device
+generator(self.seed, "noise", *place[:2], device
noise without batch @ test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs
-generator(self.seed, "noise", *place, device
+generator(self.seed, "noise", place[0], place[2], device
noise without epoch @ test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs
-generator(self.seed, "noise", *place, device
+generator(self.seed, "noise", *place[1:], device
dropout not addressed @ test_a_batchs_noise_is_a_function_of_seed_epoch_batch_and_rank_alone
-reseed(self.seed, "train", *place)
+pass
record's step off by one @ tests/test_run.py::test_one_command_trains_samples_and_measures
-"epoch": self.current_epoch}, step=step)
+"epoch": self.current_epoch}, step=step - 1)
## lightning_gen/families/health.py | tests/families/test_base.py
loss not looked at @ test_what_is_not_finite_never_reaches_the_weights[loss]
-finite = torch.isfinite(loss)
+finite = torch.isfinite(torch.zeros_like(loss))
gradient not looked at @ test_what_is_not_finite_never_reaches_the_weights[gradient]
-fine = self.finite & torch.isfinite(norm)
+fine = self.finite
found_inf upside down @ test_a_fused_optimizer_is_held_back_on_the_device
-bad = torch.logical_not(fine).float()
+bad = fine.float()
found_inf of another shape @ test_a_fused_optimizer_is_held_back_on_the_device
-bad = torch.logical_not(fine).float()
+bad = torch.logical_not(fine).float().reshape(1)
## lightning_gen/data/loader.py | tests/data/test_loader.py
order without epoch @ test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone
-generator(self.seed, "order", epoch)
+generator(self.seed, "order")
flips without rank @ test_ranks_do_not_share_their_flips
-generator(self.seed, "flip", epoch, batch, self.rank)
+generator(self.seed, "flip", epoch, batch)
flips without epoch @ test_half_of_the_images_are_mirrored_anew_each_epoch
-generator(self.seed, "flip", epoch, batch, self.rank)
+generator(self.seed, "flip", batch, self.rank)
position saved one batch early @ test_a_loader_goes_on_where_its_state_was_saved
-self.batch = batch + 1
+self.batch = batch
## callbacks/record.py | tests/callbacks/test_record.py
step of the record off by one @ test_every_value_is_a_line_with_step_epoch_and_time
-"step": int(step or 0), "epoch"
+"step": int(step or 0) + 1, "epoch"
## callbacks/checkpoints.py | tests/callbacks/test_checkpoints.py
checkpoint written in place @ test_a_kill_in_the_middle_of_a_save_leaves_the_old_file
-partial = path.with_name(path.name + ".part")
+partial = path
checkpoint unpickled @ test_code_in_a_checkpoint_is_not_run
-map_location=map_location or "cpu", weights_only=True)
+map_location=map_location or "cpu", weights_only=False)
## lightning_gen/models/denoiser.py | tests/models/test_score.py
EDM's c_in without alpha @ test_edm_scales_input_and_target_to_unit_variance
-total.rsqrt() / alpha, level.log() / 4
+total.rsqrt(), level.log() / 4
EDM's c_skip without alpha @ test_edm_scales_input_and_target_to_unit_variance
-sigma_data**2 / total / alpha, level
+sigma_data**2 / total, level
EDM's c_out with sigma for the level @ test_edm_scales_input_and_target_to_unit_variance
-level * sigma_data / total.sqrt()
+process.sigma(t) * sigma_data / total.sqrt()
clean network told t for its index @ test_every_parametrization_tells_the_network_its_index
-return torch.zeros_like(t), torch.ones_like(t), torch.ones_like(t), process.network_time(t)
+return torch.zeros_like(t), torch.ones_like(t), torch.ones_like(t), t
noise read in single precision @ test_a_noise_network_is_read_without_loss_at_small_noise
-        t = double(t)
-        alpha, sigma
+        t = t.float()
+        alpha, sigma
## lightning_gen/likelihood/bound.py | tests/likelihood/test_bound.py
decoder's bins off by one half @ test_the_decoders_bins_are_centred_on_their_values
-(x + half - mean) / sigma, (x - half - mean) / sigma
+(x + 2 * half - mean) / sigma, (x - mean) / sigma
## lightning_gen/families/base.py | tests/families/test_base.py
dropout without rank @ test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs
-reseed(self.seed, "train", *place)
+reseed(self.seed, "train", *place[:2])
noise and dropout of one stream @ test_dropout_and_noise_each_differ_between_ranks_batches_and_epochs
-generator(self.seed, "noise", *place, device
+generator(self.seed, "train", *place, device
last block drawn short @ test_fewer_samples_are_the_first_of_many
-self.trajectory(size, seed
+self.trajectory(min(size, n - index * size), seed
validation not looked at @ test_a_validation_loss_that_is_not_finite_is_an_error
-if not torch.isfinite(loss).all():
+if False:
validation of the raw weights @ test_validation_is_the_mean_over_all_samples_of_the_average
-loss = self.loss(self.averaged, batch["x"], place)
+loss = self.loss(self.model, batch["x"], place)
validation's noise without its index @ test_validation_is_the_mean_over_all_samples_of_the_average
-generator(self.seed, "val", int(batch["index"][0]), device
+generator(self.seed, "val", device
validation's mean over batches @ test_validation_is_the_mean_over_all_samples_of_the_average
-[loss.double().sum().item(), len(loss)]
+[loss.double().mean().item(), 1]
norm recorded after clipping @ test_what_is_recorded_is_the_mean_over_micro_batches_and_the_norm_before_clipping
-            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
+            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
+            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
## lightning_gen/families/health.py | tests/families/test_base.py
loss averaged over updates @ test_what_is_recorded_is_the_mean_over_micro_batches_and_the_norm_before_clipping
-float(self.losses) / max(self.batches, 1)
+float(self.losses) / max(self.updates, 1)
ranks not asked @ test_one_ranks_flag_is_every_ranks
-torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
+pass
flag forgotten @ test_health_forgets_nothing_until_the_host_has_read
-self.bad = bad if self.bad is None else torch.maximum(self.bad, bad)
+self.bad = bad
micro-batches forgotten @ test_health_forgets_nothing_until_the_host_has_read
-self.finite = finite if self.finite is None else self.finite & finite
+self.finite = finite
## callbacks/checkpoints.py | tests/callbacks/test_checkpoints.py
checkpoint not synced @ test_a_checkpoint_is_on_the_disk_before_it_takes_its_name
-            os.fsync(file.fileno())
+            pass
"""


class Plant(NamedTuple):
    """One mistake: `old` in `file` becomes `new`, and `test` has to fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


def read(table: str) -> list[Plant]:
    """The rows of a table."""
    plants: list[Plant] = []
    for line in table.splitlines():
        sign, rest = line[0], line[1:]
        if sign == "#":
            file, tests = line[3:].split(" | ")
        elif sign in "-+":
            key = "old" if sign == "-" else "new"
            before = getattr(plants[-1], key)
            plants[-1] = plants[-1]._replace(**{key: f"{before}\n{rest}" if before else rest})
        else:
            name, test = line.split(" @ ")
            plants.append(Plant(name, file, "", "", test if "::" in test else f"{tests}::{test}"))
    return plants


PLANTS = read(TABLE)


def pytest(tests: Iterable[str], plant: Plant | None = None) -> tuple[int, str]:
    """pytest's exit code and output for `tests` in a copy of the repository with `plant` in it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder, name)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if plant is not None:
            path = Path(folder, plant.file)
            path.write_text(path.read_text().replace(plant.old, plant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *tests]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def verdict(plant: Plant) -> tuple[bool, str]:
    """Whether the plant's test fails for it, as a test does and not for want of a test, and how."""
    code, output = pytest([plant.test], plant)
    found = re.search(r"^FAILED \S+?::(.*)$", output, re.MULTILINE)
    if code == 1 and found:
        return True, found[1]
    return False, "survived" if code == 0 else f"pytest ended with {code}: {output[-300:]}"


def main(words: list[str]) -> int:
    """Plant what the words name, or everything, and print a table; 1 if anything survived."""
    plants = [plant for plant in PLANTS if not words or any(word in plant.name for word in words)]
    code, output = pytest(dict.fromkeys(plant.test for plant in plants))
    if code:
        print(f"these tests do not pass without any plant:\n{output}")
        return 1
    rows = [(plant, *verdict(plant)) for plant in tqdm(plants, desc="planted errors", unit="error")]
    for plant, caught, how in rows:
        print(f"{'caught  ' if caught else 'SURVIVED'}  {plant.name:52.52}  {how:.120}")
    print(f"{sum(caught for _, caught, _ in rows)} of {len(rows)} caught")
    return 0 if all(caught for _, caught, _ in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
