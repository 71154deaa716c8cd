"""The score that each rings experiment learns in its own steps, against the true one."""

import json

import pytest

import run as entry


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bound"),
    [("sm_rings", 0.02), ("ssm_rings", 0.02), ("dsm_rings", 0.02), ("ebm_rings", 0.03), ("nce_rings", 0.1)],
)
def test_the_learned_field_is_the_true_one_to_some_percent(name, bound, tmp_path):
    """E||s - s*||^2 / E||s*||^2, and four standard errors, on the test split, noised as the model's data are."""
    words = ["logger=none", "callbacks.pictures=null", "callbacks.curves=null", f"run={tmp_path / 'r'}"]
    assert entry.main([f"experiment={name}", *words]) == 0
    error = json.loads((tmp_path / "r" / "metrics.json").read_text())["score/relative_error/ema"]
    assert error["value"] + 4 * error["error"] < bound
