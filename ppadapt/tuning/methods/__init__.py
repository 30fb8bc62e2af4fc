"""Tuning methods, by the name a config gives them: one file and one paper each."""
from .adapter_plus import AdapterPlus
from .adaptformer import AdaptFormer
from .bitfit import BitFit
from .convpass import Convpass
from .houlsby import Houlsby
from .last_blocks import LastBlocks
from .layernorm import LayerNormTuning
from .lora import LoRA
from .pfeiffer import Pfeiffer
from .repadapter import RepAdapter
from .selection import FullFineTuning, LinearProbe
from .ssf import SSF
from .vpt import VPT

METHODS = {method.__name__: method for method in (
    AdaptFormer, VPT, LinearProbe, FullFineTuning, Houlsby, Pfeiffer, AdapterPlus, LoRA, SSF, BitFit, LayerNormTuning,
    Convpass, RepAdapter, LastBlocks)}
