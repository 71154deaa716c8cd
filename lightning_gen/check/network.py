"""Laws of networks: (x, t, label) -> like x or one number, and those of flows, autoregressive models and pairs."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch._dynamo

from lightning_gen.check.called import CLASSES, TIMES, Subject
from lightning_gen.check.law import Broken, Laws, Skipped, no_more, some
from lightning_gen.check.roles import Batch, along, difference, rows, scalar
from lightning_gen.families.execution import called
from lightning_gen.models.base import declared
from lightning_gen.randomness import generator
from lightning_gen.runs import weights_file

LARGE = 5_000_000  # parameters, above which no second derivative is taken
TOLERANCE = 1e-4  # of float32, relative to the largest value
CURVATURE = 0.03  # how far the second derivative's integral may be off, relative to the rise of the slope
LAWS = Laws()


@LAWS.law("shape", "outputs of the shape that the model needs", "the loss compares them with x", first=True)
def look_shape(subject: Subject) -> str:
    """Outputs of the shapes that the model needs."""
    if subject.failed is not None:
        raise subject.failed
    n, outputs = 5, subject.outputs()
    for key, expected in subject.role.shapes(subject.net, subject.shape, n).items():
        found = tuple(outputs[key].shape)
        if found not in expected:
            raise Broken(f"{key} is {found} for x {(n, *subject.shape)}, expected {' or '.join(map(str, expected))}")
    return ", ".join(f"{key} {tuple(value.shape)}" for key, value in outputs.items()) + f" of x {(n, *subject.shape)}"


@LAWS.law("dtype", "the dtype of x, in single and double precision", "mixed precision and exact tests fail")
def look_dtype(subject: Subject) -> str:
    """float32 for float32, float64 for a network in double precision."""
    found = {"float32": subject.outputs()}
    net = copy.deepcopy(subject.net).double()
    found["float64"] = subject.outputs(net, subject.batch().double())
    for name, outputs in found.items():
        for key, value in outputs.items():
            if value.dtype != getattr(torch, name):
                raise Broken(f"{key} is {str(value.dtype).removeprefix('torch.')} for x in {name}")
    no_more(difference(found["float32"], found["float64"]), 1e-2, "single and double precision differ by more than 1 %")
    return "float32 for float32, float64 for float64"


@LAWS.law("finite", "finite outputs at all times", "one NaN ends a training")
def look_finite(subject: Subject) -> str:
    """Finite outputs at the times of all parametrizations, also for x far out."""
    batch = subject.batch(10)
    for scale in (1.0, 50.0):
        for key, value in subject.outputs(batch=batch._replace(x=scale * batch.x)).items():
            if not value.isfinite().all():
                raise Broken(f"{key} is not finite for x of order {scale:g}, at times of {some(TIMES, 5)}")
    return f"finite for x of order 1 and 50, at times from {min(TIMES):g} to {max(TIMES):g}"


@LAWS.law("batch", "any batch size, each sample alone", "samples would depend on how many are drawn")
def look_batch(subject: Subject) -> str:
    """Each sample's output is the same in a batch of any size."""
    whole = subject.batch(5)
    all_outputs = subject.outputs(batch=whole)
    for part in (slice(0, 1), slice(2, 5)):
        label = None if whole.label is None else whole.label[part]
        own = subject.outputs(batch=Batch(whole.x[part], whole.t[part], label))
        n = part.stop - part.start
        if any(len(value) != n for value in own.values()):
            raise Broken(f"a batch of {n} gives {[tuple(value.shape) for value in own.values()]}")
        told = f"a sample's output differs by {difference(own, rows(all_outputs, part)):.2g} in a batch of {n}"
        no_more(difference(own, rows(all_outputs, part)), TOLERANCE, told)
    return "the same output of a sample alone, and among 3 and 5"


@LAWS.law("time", "dependence on t", "what is learned differs with t, as the noise does")
def look_time(subject: Subject) -> str:
    """The output depends on t, of each sample on its own."""
    if not subject.role.timed:
        raise Skipped(f"{subject.role.title} takes no time")
    batch = subject.batch()
    before, after = subject.outputs(), subject.outputs(batch=batch._replace(t=batch.t + 3))
    change = difference(after, before)
    if scalar(before) and change == 0:
        raise Skipped("it has one number for x and ignores t: an energy of data at one noise level")
    if change == 0:
        raise Broken("the output is the same at t and t + 3")
    moved = batch.t.clone()
    moved[0] += 3
    others = difference(
        rows(subject.outputs(batch=batch._replace(t=moved)), slice(1, None)), rows(before, slice(1, None))
    )
    no_more(others, TOLERANCE, "the output of a sample changes with the time of another")
    return f"the output changes by {change:.2g} from t to t + 3"


@LAWS.law("label", "dependence on the label, with classes", "a conditional model would learn no condition")
def look_label(subject: Subject) -> str:
    """With classes, the output depends on the label."""
    if subject.role.classes is None:
        raise Skipped(f"{subject.role.title} takes no label")
    net = subject.with_classes()
    if net is None:
        raise Skipped("it takes no argument classes")
    classes, given = subject.role.classes(net), subject.given.get("classes") or CLASSES
    if classes != given:
        raise Broken(f"its attribute classes is {classes}, and it was built with {given}")
    batch = subject.batch(label=True)
    other = batch._replace(label=(batch.label + 1) % classes)
    before, after = subject.outputs(net, batch), subject.outputs(net, other)
    for key in before:
        if torch.equal(after[key], before[key]):
            raise Broken(f"{key} is the same for two labels")
    return f"the output changes by {difference(after, before):.2g} from one label to another of {classes}"


@LAWS.law("eval", "the same output twice in eval mode", "no result could be repeated")
def look_eval(subject: Subject) -> str:
    """Nothing random in eval mode."""
    torch.manual_seed(1)
    first = subject.outputs()
    torch.manual_seed(2)
    if difference(subject.outputs(), first):
        raise Broken("two calls in eval mode differ")
    return "two calls in eval mode are equal"


@LAWS.law(
    "second derivative",
    "the second derivative of an energy made of it",
    "score matching would miss the kinks: use smooth activations, or set kinks = 'why' on the class",
)
def look_derivative(subject: Subject) -> str:
    """The second derivative integrates to the change of the slope, so that score matching sees all of it."""
    if subject.role.energy is None:
        raise Skipped(f"{subject.role.title} is no energy over real numbers")
    if kinks := declared(subject.net, "kinks"):
        raise Skipped(f"it declares kinks: {kinks}")
    if (size := sum(p.numel() for p in subject.net.parameters())) > LARGE:
        raise Skipped(f"it takes minutes with {size:,} parameters: give arguments of a smaller one")
    net = copy.deepcopy(subject.net).double()
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(64))
    nodes, weights = (nodes + 1) / 2, weights / 2
    source, errors = generator(0, "check", "segment"), []
    for _ in range(3):
        start, v = torch.randn(2, *subject.shape, generator=source, dtype=torch.float64)
        slope, second = along(subject.role, net, start + nodes.reshape(-1, *[1] * start.ndim) * v, v)
        ends, _ = along(subject.role, net, torch.stack([start, start + v]), v)
        rise = ends[1] - ends[0]
        scale = torch.stack([rise.abs(), second.abs().mean(), 1e-6 * slope.abs().mean()]).max().clamp(min=1e-12)
        errors.append((weights @ second - rise).abs() / scale)
    worst = float(torch.stack(errors).max())
    told = f"off by {100 * worst:.2g} % of the change of the slope on three segments"
    no_more(worst, CURVATURE, f"the second derivative of its energy is {told}")
    return f"{told}: no kinks"


@LAWS.law("save", "state_dict holds all that the output depends on", "what is loaded would be another network")
def look_save(subject: Subject) -> str:
    """Another instance with the same weights, by way of a file, has the same outputs."""
    classes = CLASSES if subject.conditional and subject.given.get("classes") is None else None
    net, other = subject.built(classes=classes), subject.built(seed=1, classes=classes)
    batch = subject.batch(label=classes is not None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        weights_file.write({key: value.contiguous() for key, value in net.state_dict().items()}, file)
        other.load_state_dict(weights_file.read(file))
    if not difference(subject.outputs(other, batch), subject.outputs(net, batch)) <= 1e-5:
        raise Broken("with the same state_dict another instance has other outputs: something random is no buffer")
    return f"{len(net.state_dict())} tensors through a file, and the same outputs"


@LAWS.law(
    "gradient",
    "every parameter is used",
    "DDP waits for it for ever (find_unused_parameters), and weight decay shrinks it",
)
def look_gradient(subject: Subject) -> str:
    """A gradient for every parameter."""
    nets = [("", subject.net, subject.batch())]
    if subject.given.get("classes") is None and (net := subject.with_classes()) is not None:
        nets.append((" with classes", net, subject.batch(label=True)))
    for told, net, batch in nets:
        net.zero_grad()
        sum(value.square().sum() + value.sum() for value in subject.role.outputs(net, batch).values()).backward()
        if unused := [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]:
            raise Broken(f"no gradient{told} of {some(unused)}")
    return f"a gradient for each of {len(list(subject.net.parameters()))} parameters"


@LAWS.law(
    "definition",
    "a flow inverts, with the determinant of its Jacobian; an autoregressive network looks back alone",
    "log p would be that of no density, and samples of another",
)
def look_definition(subject: Subject) -> str:
    """What its role asks: a flow inverts, an autoregressive network looks back alone."""
    if subject.role.definition is None:
        raise Skipped(f"{subject.role.title} has to be nothing else")
    return subject.role.definition(subject.net, subject.batch())


@LAWS.law("compile", "torch.compile gives the same", "module.compile=true would fail or change the numbers")
def look_compile(subject: Subject) -> str:
    """The network as torch.compile captures it gives the same; no code is written, which a network cannot break."""
    if not torch._dynamo.is_dynamo_supported():
        raise Skipped("torch.compile does not support this Python")
    net = copy.deepcopy(subject.net)
    for part in called([net]):
        part.compile(backend="aot_eager")
    change = difference(subject.outputs(net), subject.outputs())
    no_more(change, 1e-3, f"captured by torch.compile, the output differs by {change:.2g}")
    return f"captured by torch.compile, the same output within {change:.1g}"
