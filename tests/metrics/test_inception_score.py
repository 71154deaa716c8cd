"""The Inception Score: its factors, its limits, torch-fidelity and torchmetrics."""

import pytest
import torch

from lightning_gen.errors import NonFinite
from lightning_gen.metrics import inception_score


def _logits(n: int = 200, k: int = 7) -> torch.Tensor:
    return 3 * torch.randn(n, k, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.mark.parametrize("n", [200, 207])
def test_equals_torch_fidelity_in_order(n):
    from torch_fidelity.metric_isc import isc_features_to_metric

    theirs = isc_features_to_metric(_logits(n), splits=10, shuffle=False)
    ours = inception_score(_logits(n))
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-9)  # ddof 0


def test_equals_torchmetrics_but_for_its_ddof_1():
    from torchmetrics.image.inception import InceptionScore

    theirs = InceptionScore(feature=torch.nn.Identity(), splits=10)
    theirs.update(_logits())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        order = torch.randperm(200)  # it shuffles by the global generator
        torch.manual_seed(5)
        mean, std = theirs.compute()
    ours = inception_score(_logits()[order])
    assert ours.value == pytest.approx(float(mean), rel=1e-6)
    assert ours.std * (10 / 9) ** 0.5 == pytest.approx(float(std), rel=1e-5)


def test_it_is_sharpness_times_diversity():
    score = inception_score(_logits(), splits=1)
    assert score.sharpness * score.diversity == pytest.approx(score.value, rel=1e-12)
    assert score.sharpness < 1 < score.diversity


def test_limits():
    k = 5
    sure = 1e4 * torch.eye(k).repeat(8, 1)  # log 0 among the logits' softmax
    best = inception_score(sure, splits=1)
    assert (best.sharpness, best.diversity, best.value) == pytest.approx((1, k, k), rel=1e-9)
    collapsed = inception_score(sure[:1].repeat(40, 1), splits=1)
    assert (collapsed.sharpness, collapsed.diversity, collapsed.value) == pytest.approx((1, 1, 1))
    blurred = inception_score(torch.zeros(40, k), splits=1)
    assert (blurred.sharpness, blurred.diversity, blurred.value) == pytest.approx((1 / k, k, 1))


def test_a_generator_shuffles_and_sorted_images_need_it():
    ordered = 1e3 * torch.eye(10).repeat_interleave(20, dim=0)
    assert inception_score(ordered).value == pytest.approx(1)  # a class in each split
    draw = torch.Generator().manual_seed(0)
    before = torch.get_rng_state()
    assert inception_score(ordered, draw).value > 6
    assert torch.equal(before, torch.get_rng_state())


def test_refusals():
    with pytest.raises(NonFinite):
        inception_score(_logits() * float("nan"))
    with pytest.raises(ValueError, match="splits"):
        inception_score(_logits(9))
