"""What a question does not take is refused in one sentence, before any work: verbs times wrong values."""

import numpy as np
import pytest
import torch

import lightning_gen
from lightning_gen.likelihood import ODELikelihood
from lightning_gen.questions import ANSWERS, DPS, BlockGibbs, NormalisedLogProb
from lightning_gen.questions.modes import Ascent
from lightning_gen.samplers import MALA
from tests.questions.families import D, module, of
from tests.questions.mixture import MixtureEnergy

X = torch.zeros(2, D, dtype=torch.float64)
WHOLE = {  # of each verb, its arguments
    "log_prob": {"x": X},
    "log_ratio": {"a": X, "b": X},
    "score": {"x": X, "t": 0.5},
    "denoise": {"x": X, "sigma": 0.5},
    "encode": {"x": X},
    "decode": {"z": X},
    "interpolate": {"a": X, "b": X, "points": 3},
    "inpaint": {"x": X, "mask": torch.tensor([True, False, False, False])},
    "posterior": {"y": X[:, :1], "operator": torch.ones(1, D), "sigma": 0.5},
    "mode": {"x": X},
    "hidden_mode": {"v": X},
}
FAMILY = {"score": "ScoreSDE", "denoise": "ScoreSDE", "posterior": "ScoreSDE"}
FAMILY |= {"hidden_mode": "RBM, at most 20 units on a side"}
NUMBER = {"t", "sigma", "points"}
WRONG = {
    "null": None,
    "a text": "abc",
    "a list of texts": ["a", "b"],
    "a complex number": torch.zeros(2, D, dtype=torch.complex64),
    "a mapping": {"x": 1},
    "uneven lists": [[1.0, 2.0], [3.0]],
    "objects": np.array([None, "a"], dtype=object),
    "no values": torch.zeros(2, D, device="meta"),
    "a number": 3.5,
    "a wrong shape": torch.zeros(2, D + 1, 2),
    "no samples": torch.zeros(0, D),
    "not finite": torch.full((2, D), torch.nan),
}
CASES = [(verb, key) for verb, arguments in WHOLE.items() for key in arguments]


def ask_for(verb):
    return lightning_gen.ask(module(FAMILY.get(verb, "Flow")))


def test_every_verb_is_here():
    assert list(WHOLE) == list(ANSWERS)


REFUSED = [(*case, kind) for case in CASES for kind in WRONG if (*case, kind) != ("score", "t", "null")]  # its default


@pytest.mark.parametrize(("verb", "key", "kind"), REFUSED)
def test_a_wrong_value_is_refused_with_its_name(verb, key, kind):
    value = WRONG[kind]
    if key in NUMBER and kind == "a number":
        value = -0.5
    with pytest.raises((TypeError, ValueError), match=rf"\b{key} (is|has|holds)") as refused:
        getattr(ask_for(verb), verb)(**WHOLE[verb] | {key: value})
    assert "\n" not in str(refused.value) and ":" in str(refused.value)


def whole(x):
    """Whole numbers in the place of floats."""
    return x if x.dtype == torch.bool else x.long()


@pytest.mark.parametrize("verb", WHOLE)
def test_arrays_lists_and_whole_numbers_are_numbers(verb):
    """In the dtype of the model, as the tensors themselves."""
    ask, results = ask_for(verb), []
    for convert in (torch.clone, torch.Tensor.numpy, torch.Tensor.tolist, whole):
        arguments = {key: convert(x) if torch.is_tensor(x) else x for key, x in WHOLE[verb].items()}
        if verb == "inpaint":
            arguments["by"] = lightning_gen.questions.ClampedMetropolis(lightning_gen.samplers.MALA(2))
        if verb == "posterior":
            arguments["by"] = lightning_gen.questions.MomentMatching(3)
        result = getattr(ask, verb)(**arguments)
        results.append(result[0] if isinstance(result, tuple) else result)
    assert all(torch.equal(results[0], each) for each in results[1:])


@pytest.mark.parametrize("verb", WHOLE)
def test_an_unknown_keyword_or_an_answer_to_another_question_is_refused(verb):
    ask = ask_for(verb)
    with pytest.raises(TypeError, match="unknown"):
        getattr(ask, verb)(**WHOLE[verb], unknown=1)
    for wrong in ("DPS", DPS, 3, NormalisedLogProb() if verb != "log_prob" else BlockGibbs(), MALA(3), ODELikelihood()):
        with pytest.raises(TypeError, match=f"by is .* expected an answer to {verb}"):
            getattr(ask, verb)(**WHOLE[verb], by=wrong)


@pytest.mark.parametrize(
    ("name", "size"), [("RBM, at most 20 units on a side", 3), ("VAE, Gaussian", 2), ("GAN", 2), ("Flow", D)]
)
def test_the_size_of_a_code_is_named(name, size):
    ask = lightning_gen.ask(module(name))
    assert len(ask.decode(torch.rand(5, size).double())) == 5
    with pytest.raises(ValueError, match=rf"z has shape \(5, 7\), expected \(B, {size}\)"):
        ask.decode(torch.zeros(5, 7))


def test_a_class_of_answers_is_answered_with_how_to_write_it():
    with pytest.raises(TypeError, match=r"by is the class Ascent, expected an answer to mode: write Ascent\(\)"):
        ask_for("mode").mode(**WHOLE["mode"], by=Ascent)


def test_what_would_fit_is_named_among_the_answers_to_the_same_question():
    ask = lightning_gen.ask(of(MixtureEnergy(), (2,)))
    with pytest.raises(TypeError, match=r"BlockGibbs needs .*: choose ClampedLangevin or ClampedMetropolis"):
        ask.inpaint(torch.zeros(1, 2), torch.tensor([True, False]), by=BlockGibbs())


def test_an_unknown_question_is_named_with_the_nearest():
    ask = ask_for("mode")
    with pytest.raises(AttributeError, match="log_probs.*did you mean log_prob"):
        ask.log_probs(X)
    for wrong in ("log_probs", None, 3):
        with pytest.raises(ValueError, match="is no question"):
            ask.answer(wrong)


@pytest.mark.parametrize("wrong", ["outputs/none", None, 3, torch.nn.Linear(2, 2)])
def test_what_is_asked_is_a_trained_family(wrong):
    with pytest.raises(TypeError, match=r"module is .*lightning_gen.load"):
        lightning_gen.ask(wrong)


@pytest.mark.parametrize("options", [{"seed": "1"}, {"seed": -1}, {"label": 1.5}, {"label": "cat"}])
def test_seed_and_label_are_whole_numbers(options):
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        lightning_gen.ask(module("Flow"), **options)


def test_an_operator_that_gives_no_tensor_is_refused():
    with pytest.raises(TypeError, match="operator gives"):
        ask_for("posterior").posterior(X[:, :1], lambda x: None, 0.5)


@pytest.mark.parametrize("wrong", [torch.ones(3, D, dtype=torch.bool), torch.ones(D + 1, dtype=torch.bool)])
def test_a_mask_has_a_row_for_each_sample_or_one(wrong):
    with pytest.raises(ValueError, match="mask is"):
        ask_for("inpaint").inpaint(X, wrong)


def test_sparse_tensors_are_refused_and_reversed_arrays_are_numbers():
    ask = ask_for("mode")
    with pytest.raises(TypeError, match="x is a tensor of the layout"):
        ask.mode(X.to_sparse())
    assert torch.equal(ask.mode(X.numpy()[::-1])[0], ask.mode(X.flip(0))[0])


def test_a_density_that_rises_without_end_has_no_mode():
    class Rising(torch.nn.Linear):
        def forward(self, x, time):
            return -super().forward(x).squeeze(1).exp()

    energy = lightning_gen.models.EnergyNetwork(Rising(D, 1), readout="scalar")
    with pytest.raises(ValueError, match="rises without end"):
        lightning_gen.questions.Ascent()(energy, torch.ones(1, D))
