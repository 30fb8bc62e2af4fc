"""A transformer block in float64 NumPy, written from the papers' equations, to hold the methods against.

A test states its method's equation by overriding one of the parts; `assert_follows` then compares the output
of a Paddle block, and its gradients by central differences.
"""
import math

import numpy as np
import paddle

from ppadapt.models.vit import VisionTransformer

DIM, HEADS, GRID = 8, 2, 2


class Block:
    """x -> x + attn(norm1(x)), then x + mlp(norm2(x)). `w`: name in the block -> float64 array."""

    def __init__(self, w):
        self.w = w

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def norm(self, name, x, epsilon=1e-6):
        centred = x - x.mean(-1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return normed * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def qkv(self, x):
        return self.linear("attn.qkv", x)

    def proj(self, x):
        return self.linear("attn.proj", x)

    def fc1(self, x):
        return self.linear("mlp.fc1", x)

    def fc2(self, x):
        return self.linear("mlp.fc2", x)

    def attn(self, x):
        head, joined = DIM // HEADS, []
        q, k, v = np.split(self.qkv(x), 3, axis=-1)
        for h in range(0, DIM, head):
            scores = q[..., h:h + head] @ np.swapaxes(k[..., h:h + head], -1, -2) / math.sqrt(head)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            joined.append(weights / weights.sum(-1, keepdims=True) @ v[..., h:h + head])
        return self.proj(np.concatenate(joined, -1))

    def mlp(self, x):
        return self.fc2(gelu(self.fc1(x)))

    def attention_part(self, x):
        return x + self.attn(self.norm("norm1", x))

    def mlp_part(self, x):
        return x + self.mlp(self.norm("norm2", x))

    def __call__(self, x):
        return self.mlp_part(self.attention_part(x))


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def relu(x):
    return np.maximum(x, 0)


def random_vit(**options):
    """A tiny ViT without a head; every parameter random, LayerNorms and biases too, so that none hides a fault."""
    network = VisionTransformer(img_size=4 * GRID, patch_size=4, class_num=0, embed_dim=DIM, depth=2, num_heads=HEADS,
                                mlp_ratio=2, **options)
    shake(network.parameters(), 0.3, seed=0)
    network.eval()
    return network


def shake(parameters, scale, seed=1):
    """Add a draw of N(0, scale^2) to each."""
    draw = np.random.RandomState(seed)
    for parameter in parameters:
        noise = draw.normal(0, scale, parameter.shape).astype("float32")
        parameter.set_value(parameter.numpy() + noise)


def shaken(adaptation):
    """The adaptation with what trains away from its start, where zeros would hide faults."""
    shake(adaptation.trained_parameters().values(), 0.3)
    return adaptation


def assert_follows(adaptation, equation, index=0, prefix=None):
    """The block `index` computes `equation`, a `Block`; so do the gradients of what trains in it and of its input.

    `prefix`: of the block's names, when parameters elsewhere in the network take part.
    """
    network, prefix = adaptation.network, f"blocks.{index}." if prefix is None else prefix
    weights = {n[len(prefix):]: p.numpy().astype("f8") for n, p in network.named_parameters() if n.startswith(prefix)}
    draw = np.random.RandomState(7)
    x = draw.normal(size=(2, 1 + GRID**2, DIM))
    c = draw.normal(size=x.shape)
    tokens = paddle.to_tensor(x.astype("float32"), stop_gradient=False)
    x = tokens.numpy().astype("f8")
    adaptation.eval()
    output = network.blocks[index](tokens)
    np.testing.assert_allclose(output.numpy(), equation(weights)(x), rtol=0, atol=2e-5)

    (output * paddle.to_tensor(c.astype("float32"))).sum().backward()
    found = {n[len(prefix):]: p.grad for n, p in adaptation.trained_parameters().items() if n.startswith(prefix)}
    found = {n: g.numpy().astype("f8") for n, g in found.items() if g is not None}
    assert found or not any(n.startswith(prefix) for n in adaptation.trained)

    def loss(values, inputs):
        return float((equation(values)(inputs) * c).sum())

    for name, gradient in {**found, "": tokens.grad.numpy().astype("f8")}.items():
        for _ in range(2):
            direction = draw.normal(size=gradient.shape)
            step = 1e-5 * direction
            if name:
                losses = [loss({**weights, name: weights[name] + s}, x) for s in (step, -step)]
            else:
                losses = [loss(weights, x + s) for s in (step, -step)]
            slope, bound = (losses[0] - losses[1]) / 2e-5, np.linalg.norm(gradient) * np.linalg.norm(direction)
            error = abs((gradient * direction).sum() - slope)
            assert error <= 1e-4 * bound + 1e-5, f"gradient of {name or 'the input'}: {error} of {bound}"
    return sorted(found)
