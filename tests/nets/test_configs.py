"""Every file of experiments/net builds the network that its comment promises."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from lightning_gen import nets
from lightning_gen.config.signatures import check
from lightning_gen.nets.flows import FlowNetwork

FILES = sorted((Path(__file__).parents[2] / "experiments" / "net").glob("*.yaml"))
LEVELS = {"made_digits": 17, "made_mnist": 2, "pixelcnn_digits": 17, "pixelcnn_mnist": 2, "transformer_digits": 17}
FILES = [file for file in FILES if file.stem != "none"]
PROMISED = {  # shape and number of parameters
    "unet_cifar": ((3, 32, 32), 35_746_307),
    "unet_digits": ((1, 8, 8), 649_329),
    "unet_mnist": ((1, 28, 28), 6_469_889),
    "ncsnpp_cifar": ((3, 32, 32), 62_758_787),
    "ddpmpp_cifar": ((3, 32, 32), 61_804_419),
    "ddpmpp_digits": ((1, 8, 8), 719_265),
    "mlp": ((2,), 182_274),
    "resnet_digits": ((1, 8, 8), 150_273),
    "resnet_mnist": ((1, 28, 28), 77_089),
    "resnet_cifar": ((3, 32, 32), 5_052_929),
    "realnvp": ((2,), 73_860),
    "maf": ((2,), 208_944),
    "nsf": ((2,), 50_106),
    "mixture_flow": ((2,), 23_408),
    "glow_digits": ((1, 8, 8), 76_172),
    "glow_cifar": ((3, 32, 32), 44_051_148),
    "gan_gaussians": ((2,), 67_203),
    "gan_digits": ((1, 8, 8), 75_714),
    "gan_mnist": ((1, 28, 28), 386_882),
    "gan_cifar_small": ((3, 32, 32), 1_736_964),
    "glow_cifar_small": ((3, 32, 32), 1_614_924),
    "unet_cifar_small": ((3, 32, 32), 2_539_571),
    "vae_digits": ((1, 8, 8), 177_248),
    "vae_mnist": ((1, 28, 28), 425_284),
    "vae_shapes": ((1, 32, 32), 212_277),
    "made_digits": ((1, 8, 8), 574_900),
    "made_mnist": ((1, 28, 28), 2_184_440),
    "pixelcnn_digits": ((1, 8, 8), 97_519),
    "pixelcnn_mnist": ((1, 28, 28), 69_009),
    "transformer_digits": ((1, 8, 8), 206_417),
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_net_file_is_right_and_builds(file):
    config = yaml.safe_load(file.read_text())
    assert check({"net": config}, {"net": {"shape", "levels"}}) == []
    shape, count = PROMISED.get(file.stem, ((3, 32, 32), None))
    name = config.pop("_target_").removeprefix("lightning_gen.nets.")
    flow = issubclass(getattr(nets, name), FlowNetwork)
    if levels := LEVELS.get(file.stem):
        config["levels"] = levels
    # zuko's masks depend on values, which tensors of the device meta have not.
    with torch.device("cpu" if name in ("MAF", "NSF") else "meta"):
        net = getattr(nets, name)(shape=shape, **config)
        x, t = torch.zeros(2, *shape), torch.zeros(2)
        out = net(x)[0] if flow else net(x.flatten(1)) if levels else net(x, t)
    values = (2, math.prod(shape))
    size = 3 * config["logistics"] if config.get("logistics") else 1 if levels == 2 else levels  # of a value's law
    expected = {
        **{"resnet": (2,), "gan": (2,)},  # an energy, a critic's value
        **dict.fromkeys(LEVELS, (*values, size)),
        **dict.fromkeys(("realnvp", "maf", "nsf", "glow", "mixture"), values),
    }
    assert out.shape == next((size for name, size in expected.items() if name in file.stem), x.shape)
    assert count is None or sum(p.numel() for p in net.parameters()) == count
