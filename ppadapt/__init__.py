"""AdaptFormer for PaddlePaddle: many tasks on one frozen vision transformer.

    import ppadapt
    network = ppadapt.network("vit_micro_patch4_32", pretrained=True)
    head = ppadapt.heads.batchnorm_linear(network.embed_dim, 10)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=64), head=head)
    adaptation.train()
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=list(adaptation.parameters().values()))
"""
from . import cpu
from .version import __version__  # noqa: F401

cpu.prepare()  # before Paddle is imported, by whatever below does it first

_METHODS = ("AdaptFormer", "VPT", "LinearProbe", "FullFineTuning", "Houlsby", "Pfeiffer", "AdapterPlus", "LoRA", "SSF",
            "BitFit", "LayerNormTuning", "Convpass", "RepAdapter", "LastBlocks")
_PUBLIC = {
    **dict.fromkeys(_METHODS, "tuning.methods"), "attach": "tuning", "Adaptation": "tuning", "Method": "tuning",
    "Anatomy": "models.anatomy", "anatomy_of": "models.catalogue", "catalogue": "models.catalogue",
    "network": "networks", "vit": "networks", "heads": "models.heads", "UserError": "errors",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    """Import on first use: `import ppadapt` itself stays quick."""
    import importlib

    if name not in _PUBLIC:
        raise AttributeError(f"module 'ppadapt' has no attribute {name!r}")
    module = importlib.import_module("." + _PUBLIC[name], __name__)
    return module if _PUBLIC[name].endswith("." + name) else getattr(module, name)


def __dir__():
    return sorted([*globals(), *_PUBLIC])
