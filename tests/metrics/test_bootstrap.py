"""Errors of FID and IS are the spread over fresh samples; FID at infinity has lost the bias of few samples."""

import numpy as np
import pytest
import torch

from lightning_gen.metrics import (
    fid,
    frechet_bootstrap,
    frechet_distance,
    frechet_error,
    frechet_infinity,
    frechet_of_features,
    inception_bootstrap,
    inception_score,
    moments,
)
from lightning_gen.metrics.fid import frechet_influence


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


D = 5
MEAN, COV = torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)
SCALES = torch.tensor([1.0, 0.6, 1.5, 0.8, 1.1], dtype=torch.float64)


def _samples(n: int, seed: int, near: bool = False) -> torch.Tensor:
    z = torch.randn(n, D, generator=_draw(seed), dtype=torch.float64)
    return z if near else z * SCALES + 0.3


TRUTH = D * 0.09 + float((SCALES - 1).square().sum())


@pytest.mark.parametrize(("near", "limits"), [(False, (0.8, 1.25)), (True, (0.8, 3.0))])
def test_frechets_bootstrap_is_the_spread_over_fresh_samples(near, limits):
    found = [(frechet_of_features(x, MEAN, COV), x) for x in (_samples(200, i, near) for i in range(100))]
    spread = np.std([value for value, _ in found], ddof=1)
    errors = [frechet_bootstrap(x, MEAN, COV, _draw(i), 30) for i, (_, x) in enumerate(found[:40])]
    assert {name for _, name in errors} == {"bootstrap, 30 resamples"}
    assert limits[0] <= np.mean([e**2 for e, _ in errors]) ** 0.5 / spread <= limits[1]


def test_the_delta_method_takes_over_in_many_dimensions(monkeypatch):
    monkeypatch.setattr(fid, "SMALL", D - 1)
    x = _samples(300, 1)
    assert frechet_bootstrap(x, MEAN, COV, _draw()) == (frechet_error(x, MEAN, COV), "delta method")


def test_influence_is_the_derivative_in_a_samples_weight():
    x = _samples(60, 3)

    def weighted(w):
        w = w / w.sum()
        mean = w @ x
        d = x - mean
        return frechet_distance(mean, d.mT * w @ d, MEAN, COV)

    step = 1e-4
    for j in (0, 17, 59):
        w = torch.ones(60, dtype=torch.float64)
        up, down = w.clone(), w.clone()
        up[j] += step
        down[j] -= step
        slope = 60 * (weighted(up) - weighted(down)) / (2 * step)
        # the covariance divides by n - 1 in the one, by the weights' sum in the other
        assert float(frechet_influence(x, MEAN, COV)[j]) == pytest.approx(slope, rel=0.05, abs=0.05)


def test_inception_scores_bootstrap_is_the_spread_over_fresh_logits():
    def logits(seed):
        return 2 * torch.randn(300, 6, generator=_draw(seed), dtype=torch.float64) + torch.arange(6) / 4

    scores = [inception_score(logits(i), splits=1) for i in range(100)]
    errors = np.array([inception_bootstrap(logits(i), _draw(i)) for i in range(100)])
    for i, name in enumerate(("value", "sharpness", "diversity")):
        spread = np.std([getattr(s, name) for s in scores], ddof=1)
        assert 0.75 <= (errors[:, i] ** 2).mean() ** 0.5 / spread <= 1.3, name


def test_fid_at_infinity_is_the_closed_form_where_fid_is_biased():
    found, plain = [], []
    for i in range(60):
        x = _samples(250, i)
        found.append(frechet_infinity(x, MEAN, COV, _draw(i)))
        plain.append(frechet_distance(*moments(x), MEAN, COV))
    values = np.array([f.value for f in found])
    assert abs(values.mean() - TRUTH) <= 4 * values.std(ddof=1) / 60**0.5
    assert np.mean(plain) - TRUTH > 2 * abs(values.mean() - TRUTH)  # what it takes away
    assert all(f.slope > 0 for f in found[:5]) and found[0].sizes[0] == 25 and found[0].sizes[-1] == 250
    claimed = np.mean([f.error**2 for f in found]) ** 0.5
    assert 0.75 <= claimed / values.std(ddof=1) <= 1.5


def test_fid_at_infinity_of_equal_laws_is_about_zero_on_either_side():
    found = [frechet_infinity(_samples(300, i, near=True), MEAN, COV, _draw(i)) for i in range(60)]
    values = np.array([f.value for f in found])
    assert min(values) < 0 < max(values)  # nothing is cut
    assert abs(values.mean()) < 0.2 * np.mean([f.slope / 300 for f in found])  # most of the bias has gone
    claimed = np.mean([f.error**2 for f in found]) ** 0.5
    assert 0.75 <= claimed / values.std(ddof=1) <= 3


def test_one_generator_one_number():
    x = _samples(100, 1)
    assert frechet_infinity(x, MEAN, COV, _draw(3)) == frechet_infinity(x, MEAN, COV, _draw(3))
    assert frechet_bootstrap(x, MEAN, COV, _draw(3)) == frechet_bootstrap(x, MEAN, COV, _draw(3))
    with pytest.raises(ValueError, match="20 samples"):
        frechet_infinity(x[:19], MEAN, COV, _draw())
