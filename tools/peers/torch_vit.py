"""The PyTorch side of tools/benchmark.py: AdaptFormer's authors' computation in plain PyTorch, random weights.

Run by PyTorch's interpreter with one argument, the JSON that tools/benchmark.py gives its own side.
"""
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from _measure import measure


class Block(nn.Module):
    def __init__(self, dim, heads, bottleneck, fused):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        if bottleneck:
            self.down, self.up = nn.Linear(dim, bottleneck), nn.Linear(bottleneck, dim)

    def forward(self, x):
        n, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5).softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, tokens, dim))
        y = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        if hasattr(self, "down"):
            y = y + 0.1 * self.up(F.dropout(F.relu(self.down(x)), 0.1, self.training))
        return x + y


class ViT(nn.Module):
    def __init__(self, img_size, patch_size, embed_dim, depth, num_heads, bottleneck, fused=False, class_num=100):
        super().__init__()
        self.patch = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2 + 1, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, bottleneck, fused) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Sequential(nn.BatchNorm1d(embed_dim, affine=False, eps=1e-6), nn.Linear(embed_dim, class_num))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def main():
    side = json.loads(sys.argv[1])
    torch.set_num_threads(side["threads"])
    device = "cuda" if side["device"] == "gpu" else "cpu"
    model = ViT(**side["sizes"], bottleneck=0 if side["method"] == "FullFineTuning" else 64,
                fused=side.get("fused", False)).to(device)
    trained = [p for n, p in model.named_parameters() if p.requires_grad_(
        side["method"] == "FullFineTuning" or n.startswith("head") or ".down." in n or ".up." in n).requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    size = side["sizes"]["img_size"]
    images = torch.randn(side["batch"], 3, size, size, device=device)
    labels = torch.arange(side["batch"], device=device) % 100

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=side.get("half", False)):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    def answer():
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=side.get("half", False)):
            return float(model(images).softmax(-1)[0, 0])

    if side.get("infer"):
        model.eval()
    peak = torch.cuda.max_memory_allocated if device == "cuda" else None
    result = measure(answer if side.get("infer") else step, side["steps"], peak)
    print(json.dumps({"version": f"torch {torch.__version__}", "batch": side["batch"], **result,
                      "images_per_second": side["batch"] / result["seconds"]}))


if __name__ == "__main__":
    main()
