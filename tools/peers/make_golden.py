"""Writes tests/golden/weights: small networks of each library, saved by it, with the features that it computes.

Needs an environment of its own (tools/peers/README.md); neither the product nor its tests need it:

    python tools/peers/make_golden.py                 # all cases
    python tools/peers/make_golden.py --only clip     # those whose name has it

Weights are drawn so that a wrong epsilon, GELU, order of heads or left-out layer shows: small tokens, large matrices,
norms and LayerScales that are not one. The same seeds give the same files.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import zlib
from pathlib import Path

import torchvision_stub

torchvision_stub.install()

import numpy as np  # noqa: E402
import torch  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "weights"
SIZE, PATCH, DIM, DEPTH, HEADS, HIDDEN = 16, 4, 16, 2, 2, 32
CASES = {}


def case(function):
    """A function (folder, images) -> dict with `features` or more; `given`: what no file tells and the test gives."""
    CASES[function.__name__] = function
    return function


def images(count: int = 3, side: int = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(7))


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draws every parameter; buffers stay."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like, scale):
        return torch.randn(like.shape, generator=generator) * scale

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rpartition(".")[2]
            if any(part in name for part in ("gamma", "lambda")):
                parameter.copy_(draw(parameter, 0.5))
            elif "norm" in name or ".ln_" in name or name.startswith("ln_"):
                parameter.copy_(draw(parameter, 0.2) + (leaf == "weight"))
            elif parameter.ndim < 2 or any(part in name for part in ("token", "pos", "embed", "probe", "latent")):
                parameter.copy_(draw(parameter, 0.1))
            else:
                parameter.copy_(draw(parameter, parameter[0].numel() ** -0.5 * 1.5))
            if "patch" in name or name.endswith("conv1.weight"):
                parameter.mul_(0.1)
    return model.eval()


@contextlib.contextmanager
def quiet():
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
        yield


def save_pretrained(model, folder, **options):
    with quiet():
        model.save_pretrained(folder, **options)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card


def save_safetensors(state, path):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path, {"format": "pt"})


# ---------------------------------------------------------------------------------------------- transformers

def config(kind, **options):
    import transformers

    sizes = {"hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS,
             "intermediate_size": HIDDEN, "image_size": SIZE, "patch_size": PATCH}
    if kind.startswith("Dinov2"):
        del sizes["intermediate_size"]
        sizes["mlp_ratio"] = HIDDEN // DIM
    return getattr(transformers, f"{kind}Config")(**{**sizes, **options})


def transformers_model(name, kind, seed=0, **options):
    import transformers

    return randomise(getattr(transformers, name)(config(kind, **options)), seed)


@case
def transformers_vit(folder, x):
    model = transformers_model("ViTForImageClassification", "ViT", num_labels=5)
    save_pretrained(model, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": SIZE, "width": SIZE},
        "resample": 2}))
    return {"features": model.vit(x).last_hidden_state[:, 0], "logits": model(x).logits}


@case
def transformers_vit_in_memory(folder, x):
    """The names of transformers 5 in memory, without a bias of q, k and v."""
    model = transformers_model("ViTModel", "ViT", 1, qkv_bias=False, hidden_act="quick_gelu")
    save_safetensors(model.state_dict(), folder / "model.safetensors")
    model.config.save_pretrained(folder)
    return {"features": model(x).last_hidden_state[:, 0]}


@case
def transformers_vit_sharded(folder, x):
    model = transformers_model("ViTModel", "ViT", 2)
    save_pretrained(model, folder, max_shard_size="16KB")
    return {"features": model(x).last_hidden_state[:, 0]}


@case
def transformers_deit_distilled(folder, x):
    model = transformers_model("DeiTForImageClassificationWithTeacher", "DeiT", 3, num_labels=5)
    save_pretrained(model, folder)
    result = model(x)
    return {"features": model.deit(x).last_hidden_state[:, 0], "logits": result.logits}


@case
def transformers_mae(folder, x):
    model = transformers_model("ViTMAEForPreTraining", "ViTMAE", 4, mask_ratio=0.0, decoder_hidden_size=8,
                               decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=8)
    save_pretrained(model, folder)
    return {"features": model.vit(x).last_hidden_state[:, 0]}


@case
def transformers_msn(folder, x):
    model = transformers_model("ViTMSNModel", "ViTMSN", 5)
    save_pretrained(model, folder)
    return {"features": model(x).last_hidden_state[:, 0]}


@case
def transformers_dinov2(folder, x):
    model = transformers_model("Dinov2ForImageClassification", "Dinov2", 6, num_labels=5)
    save_pretrained(model, folder)
    return {"features": model.dinov2(x).last_hidden_state[:, 0], "logits": model(x).logits}


@case
def transformers_dinov2_registers(folder, x):
    model = transformers_model("Dinov2WithRegistersModel", "Dinov2WithRegisters", 7, num_register_tokens=3)
    save_pretrained(model, folder)
    return {"features": model(x).last_hidden_state[:, 0]}


@case
def transformers_clip(folder, x):
    import transformers

    vision = config("CLIPVision").to_dict()
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "vocab_size": 10, "max_position_embeddings": 4}
    model = randomise(transformers.CLIPModel(transformers.CLIPConfig(
        vision_config=vision, text_config=text, projection_dim=8)), 8)
    save_pretrained(model, folder)
    return {"features": model.vision_model(x).pooler_output}


@case
def transformers_siglip(folder, x):
    model = transformers_model("SiglipVisionModel", "SiglipVision", 9)
    save_pretrained(model, folder)
    return {"features": model(x).pooler_output}


@case
def big_vision_siglip(folder, x):
    """Google's .npz under its names, which timm's own reader of such files reads into its network."""
    model = transformers_model("SiglipVisionModel", "SiglipVision", 10)
    state, found = {n.removeprefix("vision_model."): t for n, t in model.state_dict().items()}, {}

    def put(name, theirs, *shape, kind="kernel"):
        found[f"params/img/{name}/{kind}"] = theirs.reshape(shape).contiguous() if shape else theirs

    def linear(name, theirs):
        put(name, state[f"{theirs}.weight"].T)
        put(name, state[f"{theirs}.bias"], kind="bias")

    def norm(name, theirs):
        put(name, state[f"{theirs}.weight"], kind="scale")
        put(name, state[f"{theirs}.bias"], kind="bias")

    def attention(name, theirs):  # q, k, v: [D, heads, d]
        for q, (weight, bias) in theirs.items():
            put(f"{name}/{q}", weight.T, DIM, HEADS, DIM // HEADS)
            put(f"{name}/{q}", bias, HEADS, DIM // HEADS, kind="bias")

    put("embedding", state["embeddings.patch_embedding.weight"].permute(2, 3, 1, 0))
    put("embedding", state["embeddings.patch_embedding.bias"], kind="bias")
    found["params/img/pos_embedding"] = state["embeddings.position_embedding.weight"][None]
    for i in range(DEPTH):
        block, theirs = f"Transformer/encoderblock_{i}", f"encoder.layers.{i}"
        norm(f"{block}/LayerNorm_0", f"{theirs}.layer_norm1")
        norm(f"{block}/LayerNorm_1", f"{theirs}.layer_norm2")
        linear(f"{block}/MlpBlock_0/Dense_0", f"{theirs}.mlp.fc1")
        linear(f"{block}/MlpBlock_0/Dense_1", f"{theirs}.mlp.fc2")
        heads, out = f"{block}/MultiHeadDotProductAttention_0", f"{theirs}.self_attn.out_proj"
        attention(heads, {q: (state[f"{theirs}.self_attn.{q[0]}_proj.weight"],
                              state[f"{theirs}.self_attn.{q[0]}_proj.bias"]) for q in ("query", "key", "value")})
        put(f"{heads}/out", state[f"{out}.weight"].T, HEADS, DIM // HEADS, DIM)
        put(f"{heads}/out", state[f"{out}.bias"], kind="bias")
    norm("Transformer/encoder_norm", "post_layernorm")
    found["params/img/MAPHead_0/probe"] = state["head.probe"]
    norm("MAPHead_0/LayerNorm_0", "head.layernorm")
    linear("MAPHead_0/MlpBlock_0/Dense_0", "head.mlp.fc1")
    linear("MAPHead_0/MlpBlock_0/Dense_1", "head.mlp.fc2")
    attention("MAPHead_0/MultiHeadDotProductAttention_0", {q: pair for q, pair in zip(
        ("query", "key", "value"), zip(state["head.attention.in_proj_weight"].chunk(3),
                                       state["head.attention.in_proj_bias"].chunk(3)))})
    put("MAPHead_0/MultiHeadDotProductAttention_0/out", state["head.attention.out_proj.weight"].T, HEADS, DIM // HEADS,
        DIM)
    put("MAPHead_0/MultiHeadDotProductAttention_0/out", state["head.attention.out_proj.bias"], kind="bias")
    found.update({"params/txt/head/kernel": torch.zeros(2, 2), "params/t": torch.zeros(1), "params/b": torch.zeros(1)})
    np.savez(folder / "siglip.npz", **{name: tensor.numpy() for name, tensor in found.items()})
    peer = timm_model("vit_base_patch16_siglip_224", 10, num_classes=0, act_layer="gelu_tanh")
    peer.load_pretrained(folder / "siglip.npz")
    return {"features": timm_results(peer, x)["features"]}


# ------------------------------------------------------------------------------------------------------ timm

def timm_model(name, seed, **options):
    import timm

    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS,
             "mlp_ratio": HIDDEN / DIM, "num_classes": 5}
    return randomise(timm.create_model(name, **{**sizes, **options}), seed)


def timm_results(model, x):
    tokens = model.forward_features(x)
    return {"features": model.forward_head(tokens, pre_logits=True), "logits": model(x)}


def timm_folder(model, folder, **options):
    from timm.models import save_for_hf

    save_for_hf(model, folder, safe_serialization=True, **options)


@case
def timm_deit3(folder, x):
    model = timm_model("deit3_small_patch16_224", 20)
    torch.save({"model": model.state_dict()}, folder / "deit3.pth")
    return {**timm_results(model, x), "given": {"num_heads": HEADS}}


@case
def timm_distilled(folder, x):
    model = timm_model("deit_tiny_distilled_patch16_224", 21)
    torch.save({"model": model.state_dict()}, folder / "distilled.pth", _use_new_zipfile_serialization=False)
    tokens = model.forward_features(x)
    return {"features": tokens[:, 0], "logits": model(x), "given": {"num_heads": HEADS}}


@case
def timm_registers_gap(folder, x):
    """Registers, no class token, LayerScale, the mean before its norm."""
    model = timm_model("vit_medium_patch16_reg4_gap_256", 22)
    timm_folder(model, folder)
    return timm_results(model, x)


@case
def timm_gap(folder, x):
    """No class token, the norm before the mean, no bias of q, k and v."""
    model = timm_model("vit_medium_patch16_gap_240", 23)
    timm_folder(model, folder)
    return timm_results(model, x)


@case
def timm_registers_with_positions(folder, x):
    """Registers that have rows in pos_embed, attention pooling."""
    model = timm_model("vit_so150m_patch16_reg4_map_256", 24)
    timm_folder(model, folder)
    return timm_results(model, x)


@case
def timm_siglip(folder, x):
    model = timm_model("vit_so400m_patch16_siglip_256", 25, num_classes=0, mlp_ratio=2.1)
    timm_folder(model, folder)
    return timm_results(model, x)


@case
def timm_clip_quickgelu(folder, x):
    model = timm_model("vit_base_patch32_clip_quickgelu_224", 26)
    timm_folder(model, folder)
    return timm_results(model, x)


@case
def timm_clip_bare(folder, x):
    """timm's names of a CLIP without a config: the GELU has to be given."""
    model = timm_model("vit_base_patch32_clip_224", 27)
    save_safetensors(model.state_dict(), folder / "clip.safetensors")
    return {**timm_results(model, x), "given": {"num_heads": HEADS, "act": "gelu"}}


@case
def timm_average_pool(folder, x):
    model = timm_model("vit_base_patch16_224", 28, global_pool="avg")
    torch.save({"state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, folder / "average.pth")
    return {**timm_results(model, x), "given": {"num_heads": HEADS}}


# --------------------------------------------------- names of original code, computed by timm's network of that kind

def as_original_dinov2(state, chunks=False):
    mask = torch.zeros(1, DIM)
    names = {"reg_token": "register_tokens"}
    state = {names.get(name, name): tensor for name, tensor in state.items() if not name.startswith("head.")}
    if chunks:
        state = {re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", n): t for n, t in state.items()}
    return {**state, "mask_token": mask}


@case
def dinov2_original(folder, x):
    """facebookresearch/dinov2: a row of pos_embed for the class token, registers without rows."""
    model = timm_model("vit_small_patch14_reg4_dinov2", 30, no_embed_class=True)
    state = as_original_dinov2(model.state_dict())
    row = torch.randn(1, 1, DIM, generator=torch.Generator().manual_seed(30)) * 0.1
    state["cls_token"] = state["cls_token"] - row  # theirs adds the row to the token
    state["pos_embed"] = torch.cat([row, state["pos_embed"]], dim=1)
    torch.save(state, folder / "dinov2.pth")
    return {"features": timm_results(model, x)["features"], "given": {"num_heads": HEADS}}


@case
def dinov2_chunked(folder, x):
    """A training file: teacher.backbone., blocks in chunks, the projection head beside it."""
    model = timm_model("vit_small_patch14_dinov2", 31)
    state = {f"backbone.{n}": t for n, t in as_original_dinov2(model.state_dict(), chunks=True).items()}
    state["dino_head.mlp.0.weight"] = torch.zeros(2, DIM)
    torch.save({"teacher": state}, folder / "teacher_checkpoint.pth")
    return {"features": timm_results(model, x)["features"], "given": {"num_heads": HEADS}}


@case
def dino_full(folder, x):
    """facebookresearch/dino: student and teacher in one file."""
    model, student = (timm_model("vit_small_patch16_224", seed, num_classes=0, depth=1) for seed in (32, 33))
    head = {"head.mlp.0.weight": torch.zeros(2, DIM)}
    torch.save({"student": {f"module.backbone.{n}": t for n, t in student.state_dict().items()},
                "teacher": {**{f"backbone.{n}": t for n, t in model.state_dict().items()}, **head},
                "optimizer": {}, "epoch": 100, "args": argparse.Namespace(arch="vit_small", patch_size=8)},
               folder / "checkpoint.pth")
    return {"features": timm_results(model, x)["features"], "given": {"num_heads": HEADS}, "key": "teacher"}


@case
def moco_v3_full(folder, x):
    """facebookresearch/moco-v3: two encoders, whose head is a projector, and a predictor."""
    model, other = (timm_model("vit_small_patch16_224", seed, num_classes=0, depth=1) for seed in (34, 35))

    def encoder(prefix, network):
        state = {f"module.{prefix}.{n}": t for n, t in network.state_dict().items()}
        for layer, kind in ((0, "weight"), (1, "weight"), (1, "bias"), (1, "running_mean"), (3, "weight")):
            state[f"module.{prefix}.head.{layer}.{kind}"] = torch.zeros(DIM, DIM) if layer != 1 else torch.zeros(DIM)
        return state

    torch.save({"epoch": 300, "arch": "vit_small", "optimizer": {}, "state_dict": {
        **encoder("base_encoder", model), **encoder("momentum_encoder", other),
        "module.predictor.0.weight": torch.zeros(2, 2)}}, folder / "vit-s-300ep.pth.tar")
    return {"features": timm_results(model, x)["features"], "given": {"num_heads": HEADS},
            "key": "module.base_encoder"}


# ------------------------------------------------------------------------------------------- OpenAI's and open_clip

def clip_model(seed, quick_gelu):
    import open_clip

    tower = {"layers": DEPTH, "width": DIM, "head_width": DIM // HEADS, "patch_size": PATCH, "image_size": SIZE,
             "mlp_ratio": HIDDEN / DIM}
    text = {"context_length": 4, "vocab_size": 10, "width": 8, "heads": 2, "layers": 1}
    model = open_clip.CLIP(8, tower, text, quick_gelu=quick_gelu)
    return randomise(model, seed), {"embed_dim": 8, "quick_gelu": quick_gelu, "vision_cfg": tower, "text_cfg": text}


def before_projection(model, x):
    proj, model.visual.proj = model.visual.proj, None
    features = model.visual(x)
    model.visual.proj = proj
    return features


@case
def open_clip_folder(folder, x):
    model, settings = clip_model(40, quick_gelu=False)
    save_safetensors(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}}))
    return {"features": before_projection(model, x)}


@case
def openai_clip(folder, x):
    """OpenAI's state dict: half precision, with the numbers that their code keeps beside it."""
    model, _ = clip_model(41, quick_gelu=True)
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    state.update(input_resolution=torch.tensor(SIZE), context_length=torch.tensor(4), vocab_size=torch.tensor(10))
    torch.save(state, folder / "ViT.pt")
    return {"features": before_projection(model, x), "given": {"num_heads": HEADS}}


# ------------------------------------------------------------------------------------------------------ Swin

SWIN = {"img_size": 32, "embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}


def swin(name, seed, **options):
    import timm

    return randomise(timm.create_model(name, num_classes=5, **{**SWIN, **options}), seed)


@case
def swin_timm(folder, x):
    model = swin("swin_tiny_patch4_window7_224", 60)
    timm_folder(model, folder)
    return {**timm_results(model, images(1, side=32)), "network": "SwinTransformer_tiny_patch4_window7_224"}


@case
def swin_v2_microsoft(folder, x):
    """Microsoft's names and wrapper, computed by timm."""
    model = swin("swinv2_tiny_window8_256", 62)
    state = {re.sub(r"^layers\.1\.downsample", "layers.0.downsample", n).replace("head.fc.", "head."): t
             for n, t in model.state_dict().items()}
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    torch.save({"model": state}, folder / "swinv2.pth")
    return {**timm_results(model, images(1, side=32)), "network": "SwinTransformerV2_tiny_patch4_window8_256"}


@case
def swin_v2_timm(folder, x):
    """timm's own names of v2, whose downsampling stands at the beginning of a stage."""
    model = swin("swinv2_tiny_window8_256", 64, depths=(1, 1))
    timm_folder(model, folder)
    return {**timm_results(model, images(1, side=32)), "network": "SwinTransformerV2_tiny_patch4_window8_256",
            "depths": [1, 1]}


@case
def swin_transformers(folder, x):
    import transformers

    model = randomise(transformers.SwinForImageClassification(transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, num_labels=5)), 63)
    save_pretrained(model, folder)
    x = images(1, side=32)
    return {"features": model.swin(x).pooler_output, "logits": model(x).logits,
            "network": "SwinTransformer_tiny_patch4_window7_224"}


# ------------------------------------------------------------------------------------------------------ BEiT

BEIT = {"network": "BEiTv2_vit_base_patch16_224"}


@case
def beit_original(folder, x):
    """One table of relative positions for all blocks, as in the files of the pre-training; computed by timm."""
    model = timm_model("beit_base_patch16_224", 70, global_pool="token", use_rel_pos_bias=False,
                       use_shared_rel_pos_bias=True)
    state = {**model.state_dict(), "mask_token": torch.zeros(1, 1, DIM), "lm_head.weight": torch.zeros(2, DIM)}
    torch.save({"model": state}, folder / "beit.pth")
    return {**timm_results(model, x), **BEIT}


@case
def beit_transformers(folder, x):
    """A table a block, the class token: without mean pooling."""
    model = transformers_model("BeitModel", "Beit", 71, use_mean_pooling=False, use_relative_position_bias=True,
                               layer_norm_eps=1e-6, use_mask_token=True)
    save_pretrained(model, folder)
    return {"features": model(x).last_hidden_state[:, 0], **BEIT}


# ------------------------------------------------------------------------------------------------------ peft

def draw_lora(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


@case
def peft_transformers(folder, x):
    """Ranks and alphas that differ, rslora, a saved classifier; on the network of transformers_vit."""
    import peft

    model = transformers_model("ViTForImageClassification", "ViT", num_labels=5)
    modules = [name for name, _ in model.named_modules()]
    q = next(name for name in modules if name.endswith("layers.0.attention.q_proj"))
    model = draw_lora(peft.get_peft_model(model, peft.LoraConfig(
        r=3, lora_alpha=5, use_rslora=True, rank_pattern={re.escape(q): 5}, alpha_pattern={re.escape(q): 11},
        target_modules=["q_proj", "v_proj", "o_proj", "fc2"], modules_to_save=["classifier"])), 50)
    save_pretrained(model, folder)
    return {"logits": model(x).logits, "base": "transformers_vit"}


@case
def peft_timm(folder, x):
    """Fused q, k, v, and layers whose LayerScale is folded; on the network of timm_deit3."""
    import peft

    model = draw_lora(peft.get_peft_model(timm_model("deit3_small_patch16_224", 20), peft.LoraConfig(
        r=2, lora_alpha=7, target_modules=r"blocks\.\d+\.(attn\.qkv|attn\.proj|mlp\.fc2)")), 51)
    save_pretrained(model, folder)
    return {"logits": model(x), "base": "timm_deit3", "given": {"num_heads": HEADS}}


def write(name: str) -> int:
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(zlib.crc32(name.encode()))
    with torch.no_grad():
        result = CASES[name](folder, images())
    arrays = {key: value.float().numpy() for key, value in result.items() if torch.is_tensor(value)}
    np.savez(folder / "expected.npz", **arrays)
    meta = {key: value for key, value in result.items() if not torch.is_tensor(value)}
    if meta:
        (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return sum(file.stat().st_size for file in folder.iterdir())


def positions() -> dict[str, np.ndarray]:
    """A table of positions [1, 25, 2] in other sizes, as the libraries resize it: names of weights/pos_embed.py."""
    table = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(3))
    found = {"source": table}
    for side in (3, 4, 8):
        ways = {"plain": {"size": side}, "antialias": {"size": side, "antialias": True},
                "offset": {"scale_factor": (side + 0.1) / 5}}  # dino/vision_transformer.py, dinov2's interpolate_offset
        for way, options in ways.items():
            found[f"{way}_{side}"] = torch.nn.functional.interpolate(table, mode="bicubic", **options)
    return {name: array.permute(0, 2, 3, 1).flatten(1, 2).numpy() for name, array in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the names of the cases to write")
    chosen = [name for name in CASES if parser.parse_args().only in name]
    OUT.mkdir(parents=True, exist_ok=True)
    np.save(OUT / "images.npy", images().numpy())
    np.save(OUT / "images_swin.npy", images(1, side=32).numpy())
    np.savez(OUT / "positions.npz", **positions())
    sizes = {name: write(name) for name in chosen}
    for name, size in sizes.items():
        print(f"{name:32} {size / 1000:7.1f} kB")
    whole = sum(file.stat().st_size for file in OUT.parent.rglob("*") if file.is_file())
    print(f"{'all of tests/golden':32} {whole / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
