"""torch.compile in training, where a few steps say that it pays: said, kept for the run, and never elsewhere."""

import copy
import json
from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.callbacks.trial import Turns
from lightning_gen.families.execution import InTraining, compile_training
from lightning_gen.nets import MLPAutoencoder
from lightning_gen.nets.autoencoder import Autoencoder
from lightning_gen.stages import compilation
from tests.families.test_players import same
from tests.test_run import BARE, command
from tests.test_threads import weights

LONG = (*BARE, "data.batch_size=8", "trainer.max_steps=9")
compiler = torch.compile


def kept(folder):
    return json.loads((folder / "run.json").read_text()).get("compiled")


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile hands to its backend, which here runs it as it is."""
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(compiler, backend=backend))
    return graphs


@pytest.fixture
def tried(monkeypatch):
    """Trials of any training, which count as won or lost at once."""

    def win(pays, least=0.0):
        monkeypatch.setattr(compilation, "LEAST_STEPS", 9)
        monkeypatch.setattr(compilation, "LEAST_SECONDS", least)
        if pays is not None:
            found = {False: 0.5, True: 0.25 if pays else 0.75}
            monkeypatch.setattr(Turns, "medians", property(lambda self: self.first.update({True: 1.0}) or found))

    return win


def test_a_network_is_compiled_in_training_alone_and_so_are_its_copies(graphs):
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    x = torch.randn(5, 3)
    plain = net(x)
    net.forward = InTraining(net)
    with torch.no_grad():
        assert torch.equal(net(x), plain)
    assert torch.equal(net.eval()(x), plain) and not graphs
    assert torch.equal(net.train()(x), plain) and len(graphs) == 1
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert not torch.equal(twin(x), plain) and torch.equal(net(x), plain), "a copy has weights of its own"
    assert sorted(net.state_dict()) == ["0.bias", "0.weight"]


def test_of_an_encoder_and_decoder_both_halves_are_compiled(graphs):
    class Model:
        def networks(self):
            return [net]

    net, x = MLPAutoencoder((4,), 2, 8, 1), torch.randn(3, 4)
    plain = net.encode(x), net.decode(x[:, :2])
    assert len(compile_training(Model())) == 2
    assert torch.equal(net.encode(x), plain[0]) and len(graphs) == 1
    assert torch.equal(net.decode(x[:, :2]), plain[1]) and len(graphs) == 2


def test_where_it_pays_the_run_is_compiled_and_says_so(graphs, tried, tmp_path, capsys):
    tried(True)
    assert command(*LONG, f"run={tmp_path / 'run'}") == 0
    said = "a step takes 0.25 s compiled, 0.5 s without, so that 1 s of compilation pay after 4 of 9 steps"
    assert f"compilation  yes: {said}" in capsys.readouterr().out
    assert kept(tmp_path / "run") is True and graphs


def test_what_is_saved_in_the_whole_run_has_to_be_more_than_compiling_takes(graphs, tried, tmp_path, monkeypatch):
    tried(True)
    slow = property(lambda self: self.first.update({True: 3.0}) or {False: 0.5, True: 0.25})
    monkeypatch.setattr(Turns, "medians", slow)
    assert command(*LONG, f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is False, "9 steps save 2.25 s of 3"


def test_a_limit_of_time_counts(graphs, tried, tmp_path, monkeypatch):
    tried(True, least=1200.0)
    monkeypatch.setattr(compilation, "rehearse", lambda *_: pytest.fail("tried"))
    assert command(*LONG, "trainer.max_time=00:00:10:00", f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is None


def test_a_resumed_run_that_has_not_chosen_is_not_tried(graphs, tried, tmp_path, monkeypatch):
    tried(True)
    monkeypatch.setattr(compilation, "LEAST_STEPS", 100)
    assert command(*LONG, f"run={tmp_path / 'run'}") == 0
    monkeypatch.setattr(compilation, "LEAST_STEPS", 9)
    monkeypatch.setattr(compilation, "measured", lambda *_: pytest.fail("tried"))
    assert command(*LONG, "trainer.max_steps=12", f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is None


def test_jobs_of_one_process_are_compiled_each_on_its_own(graphs, tried, tmp_path):
    tried(True)
    torch.compiler.reset()
    for width in range(8, 18):
        net = nn.Sequential(nn.Linear(3, width))
        net.forward = InTraining(net)
        net(torch.randn(2, 3))
    before = len(graphs)
    assert command(*LONG, f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is True and len(graphs) > before


def test_a_network_that_nothing_calls_is_not_compiled(graphs, tried, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Autoencoder, "called", None)
    tried(True)
    words = ("experiment=vae_digits", "quality=none", "callbacks={}", "logger=none", "trainer.max_steps=9")
    assert command(*words, f"run={tmp_path / 'run'}") == 0
    said = capsys.readouterr().out
    assert "compilation  no: the training calls none of the networks as a module" in said
    assert said.count("torch.compile is tried") == 1 and not graphs


@pytest.mark.parametrize("choice", ["false", "true"])
def test_what_is_decided_is_not_tried(choice, graphs, tried, tmp_path, monkeypatch):
    tried(True)
    monkeypatch.setattr(compilation, "measured", lambda *_: pytest.fail("tried"))
    assert command(*LONG, f"module.compile={choice}", f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is None


def test_a_trial_that_is_lost_leaves_no_trace_in_the_run(graphs, tried, tmp_path, capsys):
    tried(False)
    assert command(*LONG, f"run={tmp_path / 'tried'}") == 0
    assert "compilation  no: a step takes 0.75 s compiled, 0.5 s without (" in capsys.readouterr().out
    assert kept(tmp_path / "tried") is False
    assert command(*LONG, "module.compile=false", f"run={tmp_path / 'plain'}") == 0
    assert same(weights(tmp_path / "tried"), weights(tmp_path / "plain"))


def test_a_short_training_is_not_tried(graphs, tried, tmp_path, capsys, monkeypatch):
    tried(None, least=1e6)
    assert command(*LONG, f"run={tmp_path / 'seconds'}") == 0, "by its seconds"
    monkeypatch.setattr(compilation, "measured", lambda *_: pytest.fail("tried"))
    assert command(*LONG, "trainer.max_steps=8", f"run={tmp_path / 'steps'}") == 0, "by its steps"
    assert "compilation" not in capsys.readouterr().out and not graphs
    assert kept(tmp_path / "seconds") is kept(tmp_path / "steps") is None


def test_a_resumed_run_is_compiled_as_before_bit_for_bit_and_not_tried_again(graphs, tried, tmp_path, monkeypatch):
    tried(True)
    assert command(*LONG, "trainer.max_steps=12", f"run={tmp_path / 'whole'}") == 0
    assert command(*LONG, f"run={tmp_path / 'resumed'}") == 0
    monkeypatch.setattr(compilation, "measured", lambda *_: pytest.fail("tried"))
    torch.compiler.reset()
    graphs.clear()
    assert command(*LONG, "trainer.max_steps=12", f"run={tmp_path / 'resumed'}") == 0
    assert graphs, "compiled"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "resumed"))


def broken(graph, inputs):
    raise RuntimeError("no working C++ compiler found")


def test_where_compilation_does_not_work_a_compiled_run_says_so_and_goes_on_without(
    graphs, tried, tmp_path, capsys, monkeypatch
):
    tried(True)
    run = f"run={tmp_path / 'run'}"
    assert command(*LONG, run) == 0
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(compiler, backend=broken))
    more = (*LONG, "trainer.max_steps=12", run)
    before = weights(tmp_path / "run")
    for words in ([], ["module.compile=true"], ["module.compile=true", "stage=estimate"]):
        assert command(*more, *words) == 2
        said = capsys.readouterr().err
        assert "no working C++ compiler found" in said and "write module.compile=false" in said
        assert "Traceback" not in said and same(weights(tmp_path / "run"), before)
    assert command(*more, "module.compile=false") == 0
    assert not same(weights(tmp_path / "run"), before)


@pytest.mark.parametrize(
    ("backend", "words", "said"),
    [
        ("eager", ["net.dropout=0.1"], "two calls of the network differ (dropout, spectral norm)"),
        (lambda graph, _: lambda *x: [1.01 * y for y in graph(*x)], [], "compiled, the network's output differs by "),
        (lambda graph, _: 1 / 0, [], "torch.compile fails on this training: "),
    ],
)
def test_what_compilation_would_change_or_break_is_said_and_not_compiled(
    backend, words, said, tried, tmp_path, capsys, monkeypatch
):
    tried(True)
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(compiler, backend=backend))
    assert command(*LONG, *words, f"run={tmp_path / 'run'}") == 0
    assert f"compilation  no: {said}" in capsys.readouterr().out
    assert kept(tmp_path / "run") is False


@pytest.mark.parametrize(("precision", "choice"), [("bf16-mixed", True), ("32", False)])
def test_rounding_is_that_of_the_precision(precision, choice, tried, tmp_path, monkeypatch):
    tried(True)
    torch.compiler.reset()
    rounded = lambda graph, _: lambda *x: [1.004 * y for y in graph(*x)]  # noqa: E731
    monkeypatch.setattr(torch, "compile", partial(compiler, backend=rounded))
    assert command(*LONG, f"trainer.precision={precision}", f"run={tmp_path / 'run'}") == 0
    assert kept(tmp_path / "run") is choice


@pytest.mark.slow
def test_a_compiled_training_is_the_plain_one_to_rounding(tried, tmp_path):
    tried(True)
    words = ("experiment=glow_digits", "trainer.max_steps=20", "quality=none", "callbacks={}", "logger=none")
    assert command(*words, f"run={tmp_path / 'compiled'}") == 0
    assert kept(tmp_path / "compiled") is True
    assert command(*words, "module.compile=false", f"run={tmp_path / 'plain'}") == 0
    found, plain = weights(tmp_path / "compiled"), weights(tmp_path / "plain")
    for name, value in plain.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-4), name
