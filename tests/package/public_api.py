"""The ten lines of the README, and what else Python users write, as a type checker reads them. It is not run."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from PIL import Image

import ppadapt
from ppadapt import config, notebook
from ppadapt.runs import experiment

network: paddle.nn.Layer = ppadapt.network("vit_micro_patch4_32", pretrained=True)
head: paddle.nn.Layer = ppadapt.heads.batchnorm_linear(192, 10)
adaptation: ppadapt.Adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=64), head=head)
adaptation.train()
parameters: dict[str, paddle.Tensor] = adaptation.trained_parameters()
summary: str = adaptation.summary()
ppadapt.save("digits.safetensors", adaptation, ["0", "1"], [{"ResizeImage": {"size": 32}}])
state: dict[str, np.ndarray] = adaptation.state()
adaptation.load_state(state)
plain: paddle.nn.Layer = adaptation.detach()

classifier: ppadapt.Classifier = ppadapt.load("digits.safetensors", plain)
answers: list[list[dict]] = classifier.predict([Image.new("RGB", (8, 8)), np.zeros([8, 8, 3], np.uint8), Path("a.png")])
shares: np.ndarray = classifier.probabilities("a.png")

bank = ppadapt.Bank(ppadapt.network("vit_micro_patch4_32", pretrained=True))
bank.add("digits", "digits.safetensors")

plan: config.Config = config.load("digits/vit_micro_adaptformer", ["Global.epochs=1"])
results: dict = experiment.train(plan)
here: notebook.Here = notebook.setup()
place: Path = here.find("cifar-10-python.tar.gz")
