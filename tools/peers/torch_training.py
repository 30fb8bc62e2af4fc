"""The PyTorch side of the part "parity" of tools/results.py: one training by the recipe of configs/cifar10/.

Run by PyTorch's interpreter with one argument, the JSON that tools/remaking/parity.py gives: `given` is an .npz of
images uint8 [N, 32, 32, 3], labels [N] and the network's arrays under timm's names (Linear [in, out]). Prints JSON.
"""
import base64
import json
import math
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_vit import ViT

MEAN = torch.tensor([0.5071, 0.4865, 0.4409]).view(1, 3, 1, 1)
STD = torch.tensor([0.2673, 0.2564, 0.2762]).view(1, 3, 1, 1)


class PromptedViT(ViT):
    """VPT-deep: ten fresh prompts in front of the tokens of every block."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.head_prompts = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(1, 10, sizes["embed_dim"])) for _ in self.blocks)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for prompt, block in zip(self.head_prompts, self.blocks):
            x = block(torch.cat([prompt.expand(len(x), -1, -1), x], 1))[:, 10:]
        return self.head(self.norm(x)[:, 0])


def build(method, sizes, arrays):
    """The network with pretrained weights and a fresh head; what trains is set."""
    kind = PromptedViT if method == "vpt" else ViT
    model = kind(**sizes, bottleneck=64 if method == "adaptformer" else 0, class_num=10)
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    state = {}
    for key, value in arrays.items():
        if not key.startswith("head."):
            name = key.replace("patch_embed.proj", "patch").replace("attn.", "").replace("mlp.", "")
            value = torch.from_numpy(value.astype(np.float32))
            state[name] = value.T if name.rpartition(".")[0] in linear and name.endswith("weight") else value
    missing, unexpected = model.load_state_dict(state, strict=False)
    new = [name for name in missing if not name.startswith("head") and ".down." not in name and ".up." not in name]
    assert not unexpected and not new, (unexpected, new)
    nn.init.trunc_normal_(model.head[1].weight, std=0.01)
    nn.init.zeros_(model.head[1].bias)
    for block in model.blocks if method == "adaptformer" else ():
        nn.init.kaiming_uniform_(block.down.weight, a=math.sqrt(5))
        for parameter in (block.down.bias, block.up.weight, block.up.bias):
            nn.init.zeros_(parameter)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(method == "full" or name.startswith("head") or ".down." in name or ".up." in name)
    return model


def augment(x):
    """Reflect-pad 4, crop 32, flip half: float [N, 3, 32, 32] of 0 to 255."""
    count = len(x)
    x = F.pad(x.float(), (4,) * 4, mode="reflect")
    rows = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    columns = torch.randint(0, 9, (count, 1)) + torch.arange(32)
    x = x[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    flip = torch.rand(count) < 0.5
    x[flip] = x[flip].flip(-1)
    return x


def train(model, images, labels, rate, epochs, size):
    """AdamW, half an epoch of warm-up from 0, then half a cosine to 0; the last incomplete batch is left out."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-4)
    steps = len(images) // size
    total, warm, step = epochs * steps, steps // 2, 0
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(images))
        for i in range(steps):
            batch = order[i * size:(i + 1) * size]
            now = step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
            for group in optimizer.param_groups:
                group["lr"] = rate * now
            loss = F.cross_entropy(model((augment(images[batch]) / 255 - MEAN) / STD), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return sum(parameter.numel() for parameter in trained)


def main():
    told = json.loads(sys.argv[1])
    torch.set_num_threads(told["threads"])
    torch.manual_seed(told["seed"])
    given = np.load(told["given"])
    images, test = (torch.from_numpy(given[key].transpose(0, 3, 1, 2).copy()) for key in ("train", "test"))
    labels, test_labels = (torch.from_numpy(given[f"{key}_labels"].astype(np.int64)) for key in ("train", "test"))
    arrays = {key[len("weights."):]: given[key] for key in given.files if key.startswith("weights.")}
    start = time.time()
    model = build(told["method"], told["sizes"], arrays)
    trained = train(model, images, labels, told["learning_rate"], told["epochs"], told["batch"])
    model.eval()
    with torch.no_grad():
        right = torch.cat([model((test[i:i + 500].float() / 255 - MEAN) / STD).argmax(1) == test_labels[i:i + 500]
                           for i in range(0, len(test), 500)]).numpy()
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    print(json.dumps({"version": f"torch {torch.__version__}", "top1": 100.0 * float(right.mean()),
                      "trained_parameters": trained, "seconds": round(time.time() - start, 2),
                      "right": {"images": len(right), "bits": bits}}))


if __name__ == "__main__":
    main()
