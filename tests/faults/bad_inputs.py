"""A table of bad inputs, and what the sentence of each must name."""

from typing import NamedTuple

from tests.processes import place
from tests.test_run import BARE

BASE = (*BARE, "trainer.max_steps=2")
FOLDER = ("data=folder", "data.batch_size=4", "data.val_size=1", "net.attention=[8]")
NEVER = r"Traceback|shape is missing|TRACEBACK|\+\+"


class Row(NamedTuple):
    """One bad input.

    Args:
        name: of the row.
        words: of the command line after the base; {d}: the folder of files, {r}: that of runs.
        names: a pattern that the sentence has: the key or file, what was found, the remedy.
        never: one that nothing has.
        base: the words before.
        faults: sentences.
        environment: variables, with {port} a port in use.
    """

    name: str
    words: str
    names: str
    never: str = NEVER
    base: tuple[str, ...] = BASE
    faults: int = 1
    environment: dict[str, str] = {}


def rows(names, *others, **options):
    """Rows that differ by their words: {words: pattern}."""
    return [Row(words, words, pattern, *others, **options) for words, pattern in names.items()]


CONFIG = rows(
    {
        "sed=1": "sed is no key.*seed",
        "seed": "seed is no KEY=VALUE",
        "seed = 1": "seed = 1 has spaces around =: write seed=1",
        "seed =1": "seed = 1 has spaces around =: write seed=1",
        "seed=one": "seed is 'one'.*int",
        "seed=1.5": "seed is 1.5",
        "seed=-1": "seed is -1",
        "seed=1,2": "seed has several values.*-m",
        "seed=null": "seed is None",
        "seed=[1]": r"seed is \[1\]",
        "n=0": "n is 0",
        "n=-3": "n is -3",
        "n=1.5": "n is 1.5",
        "label=x": "label is 'x'",
        "label=3": "label is 3.*null for an unconditional model: leave label out",
        "label=10 net.classes=null module.classes=10": "label is 10, expected 0 to 9: write one of the classes",
        "fresh=maybe": "fresh is 'maybe'",
        "stage=fitt": "stage is 'fitt'.*fit",
        "stage=1": "stage is 1",
        "extensions=5": "extensions is 5",
        "extensions=[nowhere]": "nowhere",
        "run=": "run is empty",
        "init=": "init is empty",
        "init=nowhere": "init=nowhere is no run folder.*nowhere/config.yaml does not exist.*name one",
        "init=/nope/last.ckpt": "init=/nope/last.ckpt is no run folder",
        "init.a=1": "init",
        "runs=[a,b]": "runs is read by stage=compare alone",
        "data=[1]": r"data=\[1\]",
        "net=[1]": r"net=\[1\]",
        "trainer=[1]": r"trainer=\[1\]",
        "callbacks=[1]": "callbacks=1 does not exist",
        "logger=[1]": r"logger=\[1\]",
        "module=5": "module is 5",
        "sampler={a: 1}": "sampler",
        "data=digitz": "data=digitz does not exist.*digits",
        "net=unet": "net=unet does not exist",
        "sampler=ddmi": "sampler=ddmi does not exist.*ddim",
        "trainer=gpuu": "trainer=gpuu does not exist.*gpu",
        "callbacks=al": "callbacks=al does not exist",
        "quality=fid": "quality=fid does not exist",
        "logger=wandbb": "logger=wandbb does not exist.*wandb",
        "experiment=ddpm_cifr": "experiment=ddpm_cifr does not exist.*ddpm_cifar",
        "experiment=ddpm_digits,ddpm_mnist": "experiment has several values.*-m",
        "seed=1=2": "seed=1=2 cannot be read|seed is '1=2'",
        "module.optimizer.lr=abc": "module.optimizer.lr is 'abc'",
        "module.optimizer.lr=1e-3,1e-4": "module.optimizer.lr has several values.*-m",
        "module.optimizer._target_=torch.optim.Adm": "module.optimizer._target_ is torch.optim.Adm",
        "module.optimizer._target_=torch.load": "module.optimizer._target_ is torch.load",
        "module.optimizer={a: 1}": "module.optimizer",
        "data.root=${oc.env:HOME}": "data.root.*oc.env",
        "seed=${nothing}": "nothing",
        "net.chanels=8": "net.chanels is no argument.*channels",
        "net.channels=-8": "net.channels is -8",
        "net.groups=7": r"net\.groups is 7.*channels, 8",
        "net.channels=6": r"net\.groups is 4.*channels, 6",
        "sampler.steps=0": "sampler.steps is 0",
        "sampler.steps=2000": "steps.*2000",
        "sampler.clip=[1]": "sampler.clip",
        "callbacks.likelihood=5": "callbacks.likelihood",
        "+callbacks.mine.n=5": "callbacks.mine",
        "~sampler.nothing": "sampler.nothing",
        "--config-dir=nowhere": "--config-dir nowhere is no folder",
        "--allow=": "--allow names nothing",
    }
)
TRAINER = rows(
    {
        **{f"trainer.max_steps={x}": f"trainer.max_steps is {x}.*-1 or int >= 1: write" for x in (0, -2, 1.5)},
        **{f"trainer.max_epochs={x}": f"trainer.max_epochs is {x}" for x in (0, -3)},
        **{f"trainer.gradient_clip_val={x}": f"trainer.gradient_clip_val is {x}" for x in (-1, "nan", "inf")},
        **{f"trainer.accumulate_grad_batches={x}": f"trainer.accumulate_grad_batches is {x}" for x in (0, -1, 1.5)},
        **{f"trainer.log_every_n_steps={x}": f"trainer.log_every_n_steps is {x}" for x in (0, -1)},
        **{f"trainer.limit_train_batches={x}": f"trainer.limit_train_batches is {x}" for x in (0, 0.0, -1, 1.5)},
        "trainer.limit_train_batches=0.0001": "limit_train_batches.*Try at least",
        **{f"trainer.limit_test_batches={x}": f"trainer.limit_test_batches is {x}" for x in (0, -1, 1.5)},
        **{f"trainer.val_check_interval={x}": f"trainer.val_check_interval is {x}" for x in (0, -0.5, 1.5)},
        "trainer.check_val_every_n_epoch=0": "trainer.check_val_every_n_epoch is 0",
        "trainer.num_sanity_val_steps=-2": "trainer.num_sanity_val_steps is -2",
        "trainer.min_steps=-1": "trainer.min_steps is -1",
        "trainer.min_epochs=-4": "trainer.min_epochs is -4",
        "trainer.min_steps=3": "trainer.min_steps is 3, expected at most trainer.max_steps, 2",
        "trainer.min_epochs=3 trainer.max_epochs=2": "trainer.min_epochs is 3, expected at most trainer.max_epochs, 2",
        "trainer.max_time=abc": "trainer.max_time is 'abc'.*DD:HH:MM:SS",
        "trainer.max_time=00:00:00:00": "trainer.max_time is '00:00:00:00'",
        **{
            f"trainer.limit_{name}_batches=0.0001": f"trainer.limit_{name}_batches is 0.0001"
            for name in ("val", "test")
        },
        **{f"trainer.{key}=true": f"trainer.{key} is set by" for key in ("inference_mode", "logger", "callbacks")},
        "trainer.devices=0": "trainer.devices",
        "trainer.devices=64": "trainer.devices is 64.*torchrun",
        "trainer.devices=abc": "trainer.devices is abc",
        "trainer.num_nodes=0": "trainer.num_nodes is 0",
        "trainer.num_nodes=2": "trainer.num_nodes is 2",
        "trainer.timeout=0": "trainer.timeout is 0",
        "trainer.precision=17": "trainer.precision",
        **{
            f"trainer=cpu trainer.precision={x}": f"trainer.precision is {x}, which needs a GPU.*bf16-mixed"
            for x in (16, "16-mixed")
        },
        "trainer.accelerator=quantum": "accelerator",
        "trainer.strategy=foo": "trainer.strategy",
        "trainer.overfit_batches=0.01": r"0\.01 of the `train_dataloader`",
        "trainer.profiler=simpel": "trainer.profiler is 'simpel'.*simple",
        "trainer.gradient_clip_algorithm=nrom": "trainer.gradient_clip_algorithm is 'nrom'.*norm",
        "trainer.max_step=3": "trainer.max_step is no argument.*max_steps",
    }
)
EARLY = "+callbacks.stop={{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/loss/ema, patience: {}}}"
SCHEDULE = "module.scheduler={{_target_: torch.optim.lr_scheduler.{}, _partial_: true, {}}}"
WORK = rows(
    {
        "data.batch_size=5000": "batch_size.*5000",
        "data.seed=-1": "data.seed is -1",
        "data.val_size=5000": "val_size.*5000",
        "module.optimizer.lr=-1": "module.optimizer.*-1",
        "module.optimizer.lr=inf module.scheduler=null": "module.optimizer.*inf",
        "+module.optimizer.betas=[2,2]": "module.optimizer.*2",
        "module.ema_decay=1.5": "module.ema_decay is 1.5",
        "module.classes=9": "module.classes is 9",
        EARLY.format(-1): "callbacks.stop.patience is -1, expected at least 0",
        EARLY.format("two"): "callbacks.stop.patience is 'two'",
        SCHEDULE.format("CosineAnnealingLR", "T_max: 0"): "module.scheduler CosineAnnealingLR",
        SCHEDULE.format("StepLR", "step_size: 0"): "module.scheduler StepLR",
        SCHEDULE.format("StepLR", "step_size: 2, gamma: -1"): "module.scheduler StepLR",
        SCHEDULE.format("CosineAnnealingWarmRestarts", "T_0: 0"): "module.scheduler CosineAnnealingWarmRestarts",
        SCHEDULE.format("ReduceLROnPlateau", "patience: 3"): "module.scheduler is ReduceLROnPlateau",
        "quality=digits quality.n=0": "quality.n is 0",
        "quality=digits quality.n=1": "quality.n is 1",
        "quality=digits quality.metrics=[fidd]": "quality.metrics.*fidd",
        "quality=digits +quality.features.nothing=1": "quality.features.nothing",
        "quality=inception": "weights",
        "quality=none quality.n=5": "quality.n",
        "callbacks.checkpoints.monitor=val/nothing": "val/nothing",
        "callbacks.checkpoints.keep_last=0": "callbacks.checkpoints.keep_last is 0",
    }
)
PICTURES = [
    Row(name, f"data.path={{d}}/{path}", names, base=(*BASE, *FOLDER), never=f"{NEVER}|{never}")
    for name, path, names, never in (
        ("no folder", "nowhere", "data.path is .*nowhere, which is not a folder or file here: set it", "damaged"),
        ("a file", "good.npz", "good.npz is not a folder", "damaged"),
        ("no picture", "none", "none holds no PNG", "damaged"),
        ("twelve damaged", "many", r"000\.png.*009\.png.*and 2 more files, 12 in all", "011"),
        ("truncated", "cut", r"cut/007\.png cannot be read, it is damaged", "too large"),
        ("900 megapixels", "huge", r"huge/007\.png is too large", "damaged"),
        ("16 bits, grey", "grey16", r"007\.png has more than 8 bits", "damaged"),
        ("16 bits, RGB", "rgb16", r"007\.png has more than 8 bits", "damaged"),
        ("16 bits, grey and alpha", "alpha16", r"007\.png has more than 8 bits", "damaged"),
        ("a text that is too long", "text", r"text/007\.png cannot be read", "first bytes"),
        ("GIF", "gif", r"000\.gif.*11 more.*convert it", "damaged"),
        ("BMP", "bmp", r"000\.bmp.*convert it", "damaged"),
        ("TIFF", "tif", r"000\.tif.*convert it", "damaged"),
        ("PPM", "ppm", r"000\.ppm.*convert it", "damaged"),
        ("SVG", "svg", r"x\.svg.*convert it", "damaged"),
        ("EPS called PNG", "eps", r"007\.png cannot be read", "Ghostscript"),
        ("a picture beside class folders", "beside", r"000\.png lies beside class folders", "damaged"),
        ("a link to nothing", "broken", r"100\.png is a link to nothing", "damaged"),
        ("a class that is a link to nothing", "gone", "gone/b is a link to nothing", "damaged"),
        ("a class without pictures", "hollow", "hollow/b holds no PNG", "damaged"),
        ("another size", "sizes data.size=null", r"sizes/100\.png is .*expected 16x16", "damaged"),
    )
] + rows({"data=folder": "data.path is missing", "data=folder data.path=": "data.path is empty"})
ARCHIVES = [
    Row(f"npz {name}", f"data=npz data.batch_size=4 data.path={{d}}/{name}.npz", names)
    for name, names in {
        "nowhere": "data.path is .*nowhere.npz, which is not a folder or file here",
        "torn": "torn.npz cannot be read",
        "flipped": "flipped.npz cannot be read",
        "text": "text.npz cannot be read",
        "nothing": "nothing.npz cannot be read.*it is empty, 0 bytes",
        "other": "other.npz holds a: it needs x_train",
        "half": "half.npz.*y_train and y_test",
        "floats": "floats.npz: x_train needs uint8",
        "shapes": "shapes.npz: x_train and x_test need",
        "labels": "labels.npz: y_train needs",
        "objects": "objects.npz cannot be read",
    }.items()
] + [
    Row(
        f"samples {path}",
        f"stage=evaluate samples={{d}}/{path} data=digits quality=digits",
        names,
        base=("logger=none",),
    )
    for path, names in {
        "nowhere": "samples names .*nowhere",
        "text.npz": "text.npz cannot be read",
        "flipped.npz": "flipped.npz",
        "samples.npz": r"samples.npz holds images uint8 \(90, 7, 8\)",
        "none": "none holds no PNG",
        "gif": "000.gif",
    }.items()
]
RUNS = rows(
    {
        "run={d}/good.npz": "good.npz is a file",
        "run={d}/good.npz/x": "good.npz, which is a file",
        "run=/proc/x": "run=/proc/x cannot be written|/proc/x",
        "run=/dev/null": "/dev/null is a file",
        "run=/": "run=/ is no run folder",
        "run={r}/foreign": "foreign is no run folder",
        "run={r}/mixed": r"mixed is no run folder, and holds something else \(holiday\.txt\): name",
        "run={r}/other": r"other/config\.yaml is no config of a run \(it has no data and no module and no",
        "run={r}/inner": "inner",
        "run=" + "x" * 300: "name",
        "run={r}/done/checkpoints/last.ckpt": "is a checkpoint.*init=",
        "run={r}/no-checkpoint trainer.max_steps=2": "last.ckpt does not exist.*fresh=true",
        "run={r}/damaged-twice trainer.max_steps=2": "last.ckpt is damaged",
        "init={r}/done net.channels=12": "done does not fit this network.*write the net of that run",
        "init={r}/weights-flipped/export": "model.safetensors is damaged",
        "init={r}/weights-cut/export": "model.safetensors is damaged",
        "init={r}/laughs": "laughs/config.yaml",
        **{
            f"run={{r}}/other-{name} trainer.max_steps=3": f"other-{name}.*last.ckpt"
            for name in ("dict", "list", "text")
        },
        "run={r}/id-list trainer.max_steps=3": "run.json holds list",
        "run={r}/id-text trainer.max_steps=3": "run.json is not valid JSON",
        **{f"run={{r}}/{name}": f"{name}/config.yaml" for name in ("laughs", "empty", "no-yaml", "unknown")},
    }
) + [
    Row(words, words, names, base=())
    for words, names in {
        **{
            f"stage=sample n=1 run={{r}}/{name}": f"{name}/config.yaml"
            for name in ("nowhere", "laughs", "laughs-below", "empty", "no-yaml", "list", "binary", "unknown")
        },
        "stage=sample n=1 run={r}/other-network": "other-network.*size mismatch.*config",
        "stage=sample n=1 run={r}/other-networkexport/export": "other-networkexport/export.*size mismatch",
        "stage=sample n=1 run={r}/weights-flipped/export": "model.safetensors is damaged",
        "stage=sample n=1 run={r}/weights-cut/export": "model.safetensors is damaged",
        "stage=sample n=1 run={r}/no-checkpoint": "last.ckpt",
        "stage=sample n=1 run={r}/done/checkpoints/first.ckpt": "first.ckpt does not exist",
        "stage=sample n=0 run={r}/done": "n is 0",
        **{
            f"stage={x} fresh=true run={{r}}/done": f"fresh is True with stage={x}"
            for x in ("evaluate", "sample", "export")
        },
        "stage=sample label=3 run={r}/done": "label is 3",
        "stage=sample n=1 run=": "run is empty",
        "stage=export run={r}/no-checkpoint": "last.ckpt",
        "stage=export run={r}/nowhere": "nowhere/config.yaml",
        "stage=compare": "runs names no folders",
        "stage=compare runs=[{r}/done]": "runs names 1 folder",
        "stage=compare runs={r}/done": "runs",
        "stage=compare runs=[{r}/done,{r}/done/../list] n=3": "stage=compare reads .*, not n",
    }.items()
]
CONFIGS = [
    Row(f"experiment {name}", f"--config-dir={{d}}/configs experiment={name} logger=none", names, base=())
    for name, names in {
        "no-yaml": r"no-yaml\.yaml cannot be read as YAML",
        "laughs": r"laughs\.yaml holds more than",
        "list": r"list\.yaml holds list",
        "empty": "experiment=empty lacks its first line",
        "first-line": "experiment=first-line lacks its first line",
        "tab": r"tab\.yaml cannot be read as YAML",
    }.items()
]
# Several things are wrong, and each is said once.
SEVERAL = [
    Row(
        "a run of another config",
        "run={r}/done module.ema_decay=0.5",
        "(?s)holds a run of.*module.ema_decay: .*0.5",
        faults=2,
    ),
    Row("three faults", "sed=1 trainer.max_step=3 net.groups=0", "(?s)sed is.*net.groups is 0.*max_steps", faults=3),
    Row("a seed and its copy", "seed=-1 n=0", "(?s)seed is -1.*n is 0", faults=2),
    Row("compare one run twice", "stage=compare runs=[{r}/done,{r}/done]", "done twice", base=(), faults=2),
    Row(
        "compare none",
        "stage=compare runs=[{r}/metrics,{r}/nowhere]",
        "metrics.json is not valid JSON",
        base=(),
        faults=2,
    ),
]
STARTED = [
    Row(name, words, names, environment=environment)
    for name, words, names, environment in (
        ("WORLD_SIZE alone", "", "WORLD_SIZE is 2, but RANK.*torchrun", {"WORLD_SIZE": "2"}),
        ("RANK alone", "", "RANK is 1, but WORLD_SIZE", {"RANK": "1"}),
        ("RANK is no number", "trainer=ddp_cpu", "RANK is 'x'", place("x", 2, 29500)),
        ("a rank too many", "trainer=ddp_cpu", "rank 2 of 2", place(2, 2, 29500)),
        ("two processes, no ddp", "", "started as 2 processes.*trainer=ddp", place(0, 2, 29500)),
        ("a port in use", "trainer=ddp_cpu", "MASTER_PORT {port} cannot be used", place(0, 2, "{port}")),
        ("a port that is none", "trainer=ddp_cpu", "MASTER_PORT is 70000", place(0, 2, 70000)),
        ("SLURM without srun", "", "SLURM_NTASKS.*srun", {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}),
        ("ddp without torchrun", "trainer=ddp_cpu", "trainer.strategy ddp.*torchrun", {}),
    )
]
ALL = [*CONFIG, *TRAINER, *WORK, *PICTURES, *ARCHIVES, *RUNS, *CONFIGS, *SEVERAL, *STARTED]
