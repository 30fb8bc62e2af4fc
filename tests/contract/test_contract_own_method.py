"""A method from outside: one file, nothing of the package is touched, and it passes the contract.

(IA)^3 of Liu et al. (arXiv 2205.05638), equation 1, on the hidden layer of the MLP alone: l * f(x W1 + b1).
"""
import copy

import numpy as np
import pytest
import test_contract_methods as contract
import test_contract_zoo as zoo
from paddle import nn

from ppadapt.models.anatomy import find
from ppadapt.tuning import METHODS, Added, Before, Method, choose_blocks
from ppadapt.tuning.folding import fold_into, values
from ppadapt.weights import load_tuned, save_tuned


class Rescaled(Method):
    """One factor for every number that the MLP's second matrix reads, trained from `start`."""

    changes_inputs = True

    def __init__(self, start: float = 1.0, blocks="all"):
        self.start, self.blocks = start, blocks

    def adds(self, network, anatomy):
        for block in choose_blocks(network, anatomy, self.blocks):
            path = anatomy.part(block.layer, "fc2").path
            factors = Factors(find(block.layer, path).weight.shape[0], self.start)
            yield Added(block.path, "rescaled", factors, [(Before(block.at(path)), factors)])

    def merge(self, network, anatomy):
        for block in choose_blocks(network, anatomy, self.blocks):
            fc2 = find(block.layer, anatomy.part(block.layer, "fc2").path)
            fold_into(fc2, values(block.layer.rescaled.factors)[:, None] * values(fc2.weight))


class Factors(nn.Layer):
    def __init__(self, width, start):
        super().__init__()
        self.factors = self.create_parameter([width], default_initializer=nn.initializer.Constant(start))

    def forward(self, x):
        return x * self.factors.astype(x.dtype)


CASES = {"rescaled": [("Rescaled", {})], "rescaled_last": [("Rescaled", {"blocks": [-1]})],
         "rescaled_and_lora": [("Rescaled", {"blocks": "1:"}), ("LoRA", {"targets": ["q", "fc2"]})]}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(METHODS, "Rescaled", Rescaled)
    for case, sections in CASES.items():
        monkeypatch.setitem(contract.CASES, case, sections)


PROMISES = [getattr(contract, name) for name in dir(contract) if name.startswith("test_")
            and getattr(contract, name).__code__.co_varnames[:2] == ("family", "case")]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_what_every_method_promises(promise, case):
    assert len(PROMISES) >= 8
    promise("vit_cls", case)


@pytest.mark.parametrize("title", ["Swin", "TNT"])
def test_it_keeps_them_on_networks_of_paddleclas(title):
    zoo.test_the_contract(title, "rescaled")


def test_its_equation():
    adaptation = contract.adapt("vit_cls", "rescaled")
    before = contract.logits(adaptation, "vit_cls")
    plain = copy.deepcopy(adaptation.network)
    draw = np.random.RandomState(0)
    for block, own in zip(adaptation.network.blocks, plain.blocks):
        factors = draw.normal(1, 0.5, 64).astype("float32")
        block.rescaled.factors.set_value(factors)
        own.mlp.fc2.weight.set_value(own.mlp.fc2.weight.numpy() * factors[:, None])
    found = contract.logits(adaptation, "vit_cls")
    assert np.abs(found - before).max() > 1e-3
    np.testing.assert_allclose(found, plain(contract.images("vit_cls")).numpy(), rtol=0, atol=1e-5)


def test_a_fresh_process_computes_the_same_logits(tmp_path):
    expected = {}
    for case in CASES:
        adaptation = contract.adapt("vit_cls", case)
        contract.train(adaptation, "vit_cls", steps=2)
        save_tuned(tmp_path / f"vit_cls-{case}.safetensors", adaptation.state(), {"format_version": 1})
        assert load_tuned(tmp_path / f"vit_cls-{case}.safetensors")[0].keys() == adaptation.state().keys()
        expected[f"vit_cls-{case}"] = contract.logits(adaptation, "vit_cls")
    contract.assert_a_fresh_process_agrees(__file__, tmp_path, expected)


def load_and_run(folder):
    METHODS["Rescaled"] = Rescaled
    contract.CASES.update(CASES)
    contract.load_and_run(folder)
