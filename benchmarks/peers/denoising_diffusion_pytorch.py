"""denoising-diffusion-pytorch's own training: its Unet, GaussianDiffusion and Trainer, from a folder of PNG files.

https://github.com/lucidrains/denoising-diffusion-pytorch, MIT licence. Theirs: network, loss, sigmoid schedule of beta,
data loader, Adam, clipping at 1, average, sampler, by the values of its README where it names them (batches of 32, two
a step, rate 8e-5, average 0.995, 250 steps of DDIM), else by its defaults. Ours: the network's width, heads and three
levels, the grey images, no flips, no pictures, no mixed precision on a CPU.
"""

import argparse
import gc
import os
import tempfile
from pathlib import Path

from PIL import Image
from torch import Tensor

from benchmarks.peers.program import Trained, main, parser


def words() -> argparse.ArgumentParser:
    """With its README's rate."""
    made = parser(__doc__)
    made.add_argument("--rate", type=float, default=8e-5, help="of Adam (%(default)s)")
    return made


def train(data: Tensor, options: argparse.Namespace) -> Trained:
    """Its Trainer's loop."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

    # Of two heads, not four: as many parameters as ours, in 1%.
    net = Unet(dim=16, dim_mults=(1, 2, 4), channels=1, attn_heads=2, flash_attn=True)
    model = GaussianDiffusion(net, image_size=8, timesteps=1000, sampling_timesteps=250)
    with tempfile.TemporaryDirectory() as folder:
        for index, image in enumerate(data):
            Image.fromarray(image[0].numpy()).save(Path(folder) / f"{index}.png")
        trainer = Trainer(
            model,
            folder,
            train_batch_size=32,
            gradient_accumulate_every=2,
            train_lr=options.rate,
            train_num_steps=options.steps,
            ema_decay=0.995,
            augment_horizontal_flip=False,
            save_and_sample_every=options.steps + 1,
            calculate_fid=False,
            results_folder=str(Path(folder) / "results"),
        )
        trainer.train()
        average = trainer.ema.ema_model.eval()
        del trainer
        gc.collect()  # ends the loader's processes, whose time counts
    return Trained(net, average.sample, "DDIM, 250 steps", "denoising-diffusion-pytorch")


if __name__ == "__main__":
    main(train, words().parse_args())
