"""The picture of proposals: a PNG with a panel for each, and the effective number of draws in its title."""

import io

import numpy as np
from PIL import Image

from lightning_gen.results.pictures import proposals


def test_every_proposal_has_a_panel_with_its_effective_sample_size(monkeypatch):
    titles, rng = [], np.random.default_rng(0)
    panel = proposals._panel
    monkeypatch.setattr(proposals, "_panel", lambda axes, *rest: (panel(axes, *rest), titles.append(axes.get_title())))
    z, equal, one = rng.normal(size=(50, 2)), np.zeros(50), np.where(np.arange(50) == 3, 0.0, -1e3)
    plane = np.linspace(-3, 3, 21)
    log_posterior = -0.5 * (plane[:, None] ** 2 + plane**2)
    data = proposals.proposals_picture({"flow": (z, equal), "prior": (z, one)}, plane, log_posterior, 0.0)
    assert titles == ["flow: ESS 50 of 50", "prior: ESS 1 of 50"]
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        assert picture.size[0] > picture.size[1] > 300 and len(np.unique(np.asarray(picture.convert("L")))) > 50
