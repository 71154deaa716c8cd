"""Shared settings: no network, no account, one thread a process."""

import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", MPLBACKEND="Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
