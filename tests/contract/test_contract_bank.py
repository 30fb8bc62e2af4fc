"""Every method that routes with every other in one batch of a bank: a sample's logits are those of its task alone."""
import copy
import itertools

import numpy as np
import paddle
import pytest
from test_contract_methods import CASES, FAMILIES, methods_of, network_of
from zoo_networks import TINY, away_from_start, tiny

from ppadapt.models.heads import batchnorm_linear, head_linear
from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.bank import Bank
from ppadapt.weights import save_tuned

REFUSED = {"full", "last_blocks"}
ROUTED = [case for case in CASES if case not in REFUSED]
ONE_EACH = {sections[0][0]: case for case, sections in CASES.items() if len(sections) == 1}.values()
ZOO = [title for title in TINY if title not in ("ViT", "Swin")]


class Together:
    """A bank on a network, and every case that fits it on a copy of its own."""

    def __init__(self, network, size, folder, cases, anatomy=None):
        self.images = np.random.RandomState(2).normal(size=(6, 3, size, size)).astype("float32")
        self.bank, self.alone, self.refused = Bank(copy.deepcopy(network), anatomy), {}, {}
        anatomy = self.bank.anatomy
        for seed, case in enumerate(cases):
            net = copy.deepcopy(network)
            make, classes = (batchnorm_linear, head_linear)[seed % 2], 3 + seed % 3
            paddle.seed(seed)
            try:
                head = make(anatomy.feature_dim(net), classes)
                adaptation = attach(net, *methods_of(case), anatomy=anatomy, head=head)
            except TuningError:
                continue  # the family's own words exclude it
            draw = np.random.RandomState(seed)
            for name, tensor in adaptation.tensors().items():
                moved = tensor.numpy() + draw.normal(0, 0.1, tensor.shape).astype("float32")
                tensor.set_value(np.abs(moved) if "_var" in name else moved)
            adaptation.eval()
            path = folder / f"{case}.safetensors"
            save_tuned(path, adaptation.state(), {
                "tuning": [{"name": type(m).__name__, **m.options} for m in adaptation.methods], "preprocess": [],
                "backbone": {"name": "tiny", "digest": adaptation.backbone_digest}})
            try:
                self.bank.add(case, path)
            except TuningError as error:
                self.refused[case] = str(error)
            else:
                with paddle.no_grad():
                    self.alone[case] = adaptation(paddle.to_tensor(self.images)).numpy()

    def check(self, names, which):
        found = self.bank(self.images[which], names)
        for row, name, image in zip(found, names, which):
            np.testing.assert_allclose(row, self.alone[name][image], rtol=0, atol=1e-5, err_msg=f"{name} in {names}")

    def check_all_at_once(self):
        names = list(self.alone)
        for order in (names, names[::-1]):
            self.check(order, [i % 6 for i in range(len(order))])

    def check_every_pair(self):
        methods = [case for case in ONE_EACH if case in self.alone]
        for i, (one, other) in enumerate(itertools.combinations_with_replacement(methods, 2)):
            names = [one, other, one, other, other][i % 2:]
            self.check(names, [(i + k) % 6 for k in range(len(names))])

    def check_shared_prefix(self):
        asked = [list(self.alone), list(self.alone)[::-1][:3]]
        for image, (names, found) in enumerate(zip(asked, self.bank(self.images[:2], asked))):
            for name, row in zip(names, found):
                np.testing.assert_allclose(row, self.alone[name][image], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_our_vit(family, tmp_path):
    together = Together(network_of(family), FAMILIES[family].image, tmp_path, CASES, FAMILIES[family].anatomy)
    assert set(together.alone) == set(ROUTED) and set(together.refused) == REFUSED
    together.check_all_at_once()
    together.check_shared_prefix()
    if family == "vit_cls":
        together.check_every_pair()


@pytest.mark.parametrize("title", ["ViT", "Swin"])
def test_paddleclas_vit_and_swin(title, tmp_path):
    together = _of_zoo(title, tmp_path, CASES)
    assert set(together.refused) == REFUSED and len(together.alone) >= 19
    together.check_all_at_once()
    together.check_every_pair()
    together.check_shared_prefix()


@pytest.mark.parametrize("title", ZOO)
def test_the_rest_of_the_zoo_answers_right_or_says_why_not(title, tmp_path):
    cases = ("adaptformer", "vpt_deep", "linear", "houlsby", "adapter_plus", "lora", "ssf", "bitfit", "layernorm",
             "convpass", "repadapter", "adaptformer_last_block")
    together = _of_zoo(title, tmp_path, cases)
    assert {"adaptformer", "linear", "layernorm"} <= set(together.alone)
    together.check_all_at_once()
    together.check_shared_prefix()


def _of_zoo(title, folder, cases):
    pytest.importorskip("paddleclas", reason="PaddleClas is not installed: it needs Python <= 3.11")
    return Together(away_from_start(tiny(title)), TINY[title].image, folder, cases)
