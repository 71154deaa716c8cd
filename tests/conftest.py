"""Shared settings: no network, no account, one thread a process: tiny networks gain nothing from a second, and where
the cores are shared two threads wait for each other a hundred times longer than they work; where a test has two all the
same, they sleep until there is work."""

import os
import sys
from pathlib import Path

import pytest

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", MPLBACKEND="Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning_gen import garbage

garbage.pause()  # two fifths of the collection's time


def pytest_collection_finish() -> None:
    """Collect garbage from here on."""
    garbage.resume()


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits, split."""
    from lightning_gen.data import Digits
    from tests.data.sets import ready

    return ready(Digits())
