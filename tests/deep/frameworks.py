"""Models of real packages: fastinit's against their authors', tensor by tensor.

``python tests/deep/frameworks.py [package ...]``; without names, every package that is there. Each
model is built three times by its own code, once by `deferred` and `initialize`, and once within
`accelerate`. What is the same in each of the three has to be the same in ours; the rest is
compared by two-sample tests (see tests/alike.py). Prints what differs, and a line for each package.
What was found is kept in tests/deep/results/frameworks.json; docs/integrations.md shows it.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import make_models
from alike import differences
from record import load, save
from without_operators import define_torchvision

import fastinit.torch as init

Make = Callable[[], nn.Module]

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "vocab_size": 99}  # fmt: skip


def of_torch() -> Iterator[tuple[str, Make]]:
    """PyTorch's own layers."""
    yield "LSTM", lambda: nn.LSTM(20, 30, 2, bidirectional=True, proj_size=8)
    yield "GRU", lambda: nn.GRU(20, 30, 2)
    yield "RNN", lambda: nn.RNN(20, 30)
    yield "Transformer", lambda: nn.Transformer(32, 2, 2, 2, 64)
    yield (
        "MultiheadAttention",
        lambda: nn.MultiheadAttention(32, 4, kdim=16, vdim=8, add_bias_kv=True),
    )
    yield "EmbeddingBag", lambda: nn.EmbeddingBag(90, 20, padding_idx=1)
    yield "Bilinear", lambda: nn.Bilinear(20, 30, 40)
    yield "ConvTranspose2d", lambda: nn.ConvTranspose2d(8, 16, 3, groups=2)
    yield "BatchNorm2d", lambda: nn.BatchNorm2d(8)
    parametrizations = nn.utils.parametrizations
    yield "weight_norm", lambda: parametrizations.weight_norm(nn.Linear(30, 40))
    yield "orthogonal", lambda: parametrizations.orthogonal(nn.Linear(30, 30))
    yield "spectral_norm", lambda: parametrizations.spectral_norm(nn.Linear(30, 40))
    yield "AdaptiveSoftmax", lambda: nn.AdaptiveLogSoftmaxWithLoss(32, 200, [20, 100])


def of_transformers() -> Iterator[tuple[str, Make]]:
    """Classes of transformers, small, from their configurations."""
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.set_verbosity_error()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    for names in (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
                  auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES):  # fmt: skip
        for kind, name in names.items():
            name = name if isinstance(name, str) else name[0]

            def make(kind: str = kind, name: str = name) -> nn.Module:
                config = transformers.AutoConfig.for_model(kind)
                for key, value in SMALL.items():
                    if hasattr(config, key):
                        setattr(config, key, value)
                for key in ("num_key_value_heads", "head_dim"):
                    if getattr(config, key, None) is not None:
                        setattr(config, key, 4 if key == "num_key_value_heads" else 8)
                model: nn.Module = getattr(transformers, name)(config)
                return model

            yield name, make


def of_timm() -> Iterator[tuple[str, Make]]:
    """timm's architectures: a small one of each of its modules."""
    timm = importlib.import_module("timm")
    registry = importlib.import_module("timm.models._registry")
    words = ("test_", "atto", "femto", "pico", "nano", "micro", "xxs", "xx_small", "xxtiny", "050",
             "xs", "x_small", "tiny", "small", "mini", "18", "b0", "002", "_0", "lite")  # fmt: skip

    def size(name: str) -> tuple[int, int, str]:
        return next((i for i, word in enumerate(words) if word in name), 99), len(name), name

    modules = registry._module_to_models
    names = [min(found & {*timm.list_models()}, key=size, default="") for found in modules.values()]
    for name in filter(None, sorted(names)):

        def make(name: str = name) -> nn.Module:
            model: nn.Module = timm.create_model(name)
            return model

        yield name, make
    yield (
        "resnet18, zero_init_last=False",
        lambda: timm.create_model("resnet18", zero_init_last=False),
    )
    yield "resnet18", lambda: timm.create_model("resnet18")
    yield "mixer, nlhb=True", lambda: timm.create_model("mixer_s32_224", nlhb=True)


def of_torchvision() -> Iterator[tuple[str, Make]]:
    """torchvision's models: the smallest of each module, or a small one of those that are large."""
    models = importlib.import_module("torchvision.models")
    for name in ("resnet18", "alexnet", "squeezenet1_1", "densenet121", "googlenet",
                 "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5",
                 "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "regnet_x_400mf",
                 "inception_v3"):  # fmt: skip
        options = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}
        yield name, partial(getattr(models, name), **options)
    for package, name in (
        ("segmentation", "lraspp_mobilenet_v3_large"),
        ("segmentation", "deeplabv3_mobilenet_v3_large"),
        ("detection", "ssdlite320_mobilenet_v3_large"),
        ("detection", "fasterrcnn_mobilenet_v3_large_320_fpn"),
        ("optical_flow", "raft_small"),
        ("video", "mc3_18"),
    ):
        make = getattr(importlib.import_module(f"torchvision.models.{package}"), name)
        options = {} if package in ("optical_flow", "video") else {"weights_backbone": None}
        yield name, partial(make, **options)
    resnet = importlib.import_module("torchvision.models.resnet")
    yield (
        "ResNet, zero_init_residual",
        lambda: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], zero_init_residual=True),
    )
    vgg = importlib.import_module("torchvision.models.vgg")
    yield "VGG", lambda: _without_classifier(vgg.vgg11_bn)
    yield "VisionTransformer", lambda: models.VisionTransformer(32, 8, 2, 2, 32, 64)
    yield "SwinTransformer", lambda: models.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4])
    v2 = importlib.import_module("torchvision.models.swin_transformer")
    yield "SwinTransformerV2", lambda: models.SwinTransformer(
        [4, 4], 24, [1, 1], [2, 2], [4, 4], block=v2.SwinTransformerBlockV2,
        downsample_layer=v2.PatchMergingV2)  # fmt: skip
    block = importlib.import_module("torchvision.models.convnext").CNBlockConfig
    yield "ConvNeXt", lambda: models.ConvNeXt([block(16, 32, 2), block(32, None, 2)])
    yield "MaxVit", lambda: models.MaxVit(
        (64, 64), 16, 4, [32, 64], [1, 1], 8, 0.1)  # fmt: skip


def _without_classifier(make: Callable[..., nn.Module]) -> nn.Module:
    """Return a network of the VGG kind without its 120 million weights at the end."""
    model = make(num_classes=10)
    del model.classifier
    return model


def of_peft() -> Iterator[tuple[str, Make]]:
    """PEFT's adapters in a small Llama."""
    peft, transformers = map(importlib.import_module, ("peft", "transformers"))
    targets = ["q_proj", "v_proj"]
    lora = partial(peft.LoraConfig, r=4, target_modules=targets)
    virtual = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 5}
    configs = {
        "LoRA": lora,
        "LoRA gaussian": lambda: lora(init_lora_weights="gaussian"),
        "LoRA orthogonal": lambda: lora(init_lora_weights="orthogonal"),
        "DoRA": lambda: lora(use_dora=True),
        "rsLoRA": lambda: lora(use_rslora=True),
        "PiSSA": lambda: lora(init_lora_weights="pissa"),
        "OLoRA": lambda: lora(init_lora_weights="olora"),
        "LoRA false": lambda: lora(init_lora_weights=False),
        "AdaLoRA": lambda: peft.AdaLoraConfig(init_r=6, total_step=10, target_modules=targets),
        "LoHa": lambda: peft.LoHaConfig(r=4, target_modules=targets),
        "LoKr": lambda: peft.LoKrConfig(r=4, target_modules=targets),
        "OFT": lambda: peft.OFTConfig(r=0, oft_block_size=8, target_modules=targets),
        "BOFT": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=targets),
        "IA3": lambda: peft.IA3Config(target_modules=targets, feedforward_modules=[]),
        "VeRA": lambda: peft.VeraConfig(r=8, target_modules=["q_proj", "o_proj"]),
        "RandLoRA": lambda: peft.RandLoraConfig(r=8, target_modules=["q_proj", "o_proj"]),
        "FourierFT": lambda: peft.FourierFTConfig(n_frequency=50, target_modules=targets),
        "HRA": lambda: peft.HRAConfig(r=4, target_modules=targets),
        "VBLoRA": lambda: peft.VBLoRAConfig(
            r=4, num_vectors=16, vector_length=8, target_modules=targets),
        "LN tuning": lambda: peft.LNTuningConfig(task_type="CAUSAL_LM"),
        "Prompt": lambda: peft.PromptTuningConfig(**virtual),
        "Prefix": lambda: peft.PrefixTuningConfig(**virtual),
        "P-tuning": lambda: peft.PromptEncoderConfig(**virtual),
    }  # fmt: skip
    for name, config in configs.items():

        def make(config: Callable[[], object] = config) -> nn.Module:
            small = transformers.LlamaConfig(**SMALL, num_key_value_heads=4)
            model: nn.Module = peft.get_peft_model(transformers.LlamaForCausalLM(small), config())
            return model

        yield name, make


def of_diffusers() -> Iterator[tuple[str, Make]]:
    """diffusers' networks, small."""
    diffusers = importlib.import_module("diffusers")
    blocks = {"block_out_channels": (32, 64), "norm_num_groups": 8}
    yield "UNet2DModel", lambda: diffusers.UNet2DModel(
        sample_size=8, **blocks, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"))  # fmt: skip
    yield "UNet2DConditionModel", lambda: diffusers.UNet2DConditionModel(
        sample_size=8, **blocks, cross_attention_dim=16, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))  # fmt: skip
    yield "ControlNetModel", lambda: diffusers.ControlNetModel(
        **blocks, cross_attention_dim=16, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))  # fmt: skip
    yield "AutoencoderKL", lambda: diffusers.AutoencoderKL(
        **blocks, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2)  # fmt: skip
    yield "VQModel", lambda: diffusers.VQModel(num_vq_embeddings=32)
    yield "AutoencoderTiny", lambda: diffusers.AutoencoderTiny()
    heads = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4}
    yield "DiTTransformer2DModel", lambda: diffusers.DiTTransformer2DModel(**heads, sample_size=8)
    yield "PixArtTransformer2DModel", lambda: diffusers.PixArtTransformer2DModel(
        **heads, cross_attention_dim=32, caption_channels=16, sample_size=8)  # fmt: skip
    yield "SD3Transformer2DModel", lambda: diffusers.SD3Transformer2DModel(
        **heads, sample_size=8, joint_attention_dim=16, caption_projection_dim=32,
        pooled_projection_dim=16)  # fmt: skip
    yield "FluxTransformer2DModel", lambda: diffusers.FluxTransformer2DModel(
        **heads, num_single_layers=1, joint_attention_dim=16, pooled_projection_dim=16,
        axes_dims_rope=(2, 2, 4))  # fmt: skip
    yield "PriorTransformer", lambda: diffusers.PriorTransformer(**heads, embedding_dim=16)
    yield "StableCascadeUNet", lambda: diffusers.StableCascadeUNet(
        conditioning_dim=16, block_out_channels=(32, 32), num_attention_heads=(0, 4),
        down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(("SDCascadeResBlock",), ("SDCascadeResBlock",)))  # fmt: skip
    yield "MotionAdapter", lambda: diffusers.MotionAdapter(
        block_out_channels=(32, 64), motion_num_attention_heads=4,
        motion_norm_num_groups=8)  # fmt: skip
    yield "Kandinsky3UNet", lambda: diffusers.Kandinsky3UNet(
        time_embedding_dim=32, groups=4, attention_head_dim=8, layers_per_block=1,
        block_out_channels=(32, 64), cross_attention_dim=16, encoder_hid_dim=16)  # fmt: skip
    yield "UNet1DModel", lambda: diffusers.UNet1DModel(block_out_channels=(32, 32, 64))
    yield "T2IAdapter", lambda: diffusers.T2IAdapter(channels=[32, 64])
    yield "HunyuanDiT2DModel", lambda: diffusers.HunyuanDiT2DModel(
        **heads, in_channels=4, patch_size=2, cross_attention_dim=16, cross_attention_dim_t5=16,
        pooled_projection_dim=8, hidden_size=32, sample_size=8, text_len=8,
        text_len_t5=8)  # fmt: skip


def of_stable_baselines3() -> Iterator[tuple[str, Make]]:
    """The five algorithms' policies."""
    baselines, gymnasium = map(importlib.import_module, ("stable_baselines3", "gymnasium"))
    spaces = gymnasium.spaces
    see = spaces.Box(-1.0, 1.0, (8,))
    act, choose = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(4)
    for name, action in (
        ("PPO", choose),
        ("A2C", act),
        ("DQN", choose),
        ("SAC", act),
        ("TD3", act),
    ):
        policies = importlib.import_module(f"{baselines.__name__}.{name.lower()}").MlpPolicy
        yield name, lambda policies=policies, action=action: policies(see, action, lambda _: 1e-3)


def of_torch_geometric() -> Iterator[tuple[str, Make]]:
    """torch_geometric's convolutions."""
    layers = importlib.import_module("torch_geometric.nn")
    for short in ("GCN", "SAGE", "GAT", "GATv2", "Graph", "Cheb", "TAG", "ARMA", "SG", "SSG", "MF",
                  "Transformer", "FiLM", "Hypergraph", "LE", "Cluster", "General", "ResGatedGraph",
                  "FeaSt", "SuperGAT", "EG", "X", "GMM", "Spline"):  # fmt: skip
        name = f"{short}Conv"
        options = {
            "Cheb": {"K": 2},
            "SSG": {"alpha": 0.1},
            "X": {"dim": 3, "kernel_size": 4},
            "GMM": {"dim": 2, "kernel_size": 3},
            "Spline": {"dim": 2, "kernel_size": 3},
        }.get(short, {})
        if hasattr(layers, name):
            yield name, partial(getattr(layers, name), 16, 32, **options)
    yield "RGCNConv", lambda: layers.RGCNConv(16, 32, 4, num_bases=2)
    yield "FAConv", lambda: layers.FAConv(32)
    yield "DNAConv", lambda: layers.DNAConv(32, 2)
    yield "CGConv", lambda: layers.CGConv(32, 4)
    yield "NNConv", lambda: layers.NNConv(16, 32, nn.Linear(4, 16 * 32))
    yield "GINEConv", lambda: layers.GINEConv(nn.Linear(32, 32), edge_dim=4)
    yield "PNAConv", lambda: layers.PNAConv(16, 32, ["mean"], ["identity"], torch.ones(4).long())
    yield "HEATConv", lambda: layers.HEATConv(16, 32, 2, 3, 4, 5, 6)
    yield "HGTConv", lambda: layers.HGTConv(16, 32, (["a"], [("a", "to", "a")]), 2)
    yield "RGATConv", lambda: layers.RGATConv(16, 32, 3)
    yield "GatedGraphConv", lambda: layers.GatedGraphConv(32, 2)
    yield "GINConv", lambda: layers.GINConv(layers.MLP([16, 32, 32]), train_eps=True)
    yield "GCN2Conv", lambda: layers.GCN2Conv(32, 0.1, 0.5, 1)
    yield "SchNet", lambda: layers.SchNet(32, 32, 2)
    yield "DimeNet", lambda: layers.DimeNet(32, 4, 2, 4, 3, 3)
    yield "ViSNet", lambda: layers.ViSNet(hidden_channels=32, num_layers=2, num_heads=4)
    yield "Node2Vec", lambda: layers.Node2Vec(torch.tensor([[0, 1], [1, 0]]), 16, 4, 2)


def of_x_transformers() -> Iterator[tuple[str, Make]]:
    """x-transformers' wrappers, with its options of initialisation."""
    x = importlib.import_module("x_transformers")
    for name, options in {
        "Decoder": {},
        "alibi": {"alibi_pos_bias": True},
        "rotary": {"rotary_pos_emb": True},
        "zero": {"zero_init_branch_output": True},
        "t5": {"rel_pos_bias": True},
        "glu": {"ff_glu": True, "ff_swish": True},
    }.items():
        yield (
            name,
            lambda options=options: x.TransformerWrapper(
                num_tokens=99,
                max_seq_len=16,
                attn_layers=x.Decoder(dim=32, depth=2, heads=4, **options),
            ),
        )
    yield (
        "ViT",
        lambda: x.ViTransformerWrapper(
            image_size=32,
            patch_size=8,
            num_classes=10,
            attn_layers=x.Encoder(dim=32, depth=2, heads=4),
        ),
    )


def of_sentence_transformers() -> Iterator[tuple[str, Make]]:
    """sentence-transformers' layers over a transformer."""
    models = importlib.import_module("sentence_transformers.models")
    yield "Dense", lambda: models.Dense(32, 16)
    yield "LSTM", lambda: models.LSTM(32, 16)
    yield "CNN", lambda: models.CNN(32, 16)
    yield "WeightedLayerPooling", lambda: models.WeightedLayerPooling(32)


def of_lightning() -> Iterator[tuple[str, Make]]:
    """Lightning's ways to build a model: configure_model, and Fabric's init_module."""
    lightning = importlib.import_module("lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def configure_model(self) -> None:
            self.layer = nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.LSTM(40, 20))
            nn.init.orthogonal_(self.layer[0].weight)

    def configured() -> nn.Module:
        module = Module()
        module.configure_model()
        return module

    def by_fabric() -> nn.Module:
        with lightning.Fabric(accelerator="cpu", devices=1).init_module():
            return configured()

    yield "configure_model", configured
    yield "Fabric.init_module", by_fabric


def of_accelerate() -> Iterator[tuple[str, Make]]:
    """Accelerate's init_empty_weights: the author's values, or a model that asks for ours."""
    accelerate, transformers = map(importlib.import_module, ("accelerate", "transformers"))

    def make(kind: str) -> nn.Module:
        config = transformers.AutoConfig.for_model(kind, **SMALL)
        context = accelerate.init_empty_weights if _ours.within else contextlib.nullcontext
        with context():
            model: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
        return model

    for kind in ("llama", "mistral", "qwen2", "olmo", "phi", "gpt_neox"):
        yield f"init_empty_weights, {kind}", partial(make, kind)


class _Ours:
    """Whether the model is built for fastinit."""

    within = False


_ours = _Ours()

PACKAGES: dict[str, Callable[[], Iterator[tuple[str, Make]]]] = {
    "torch": of_torch,
    "transformers": of_transformers,
    "timm": of_timm,
    "torchvision": of_torchvision,
    "peft": of_peft,
    "diffusers": of_diffusers,
    "stable_baselines3": of_stable_baselines3,
    "torch_geometric": of_torch_geometric,
    "x_transformers": of_x_transformers,
    "sentence_transformers": of_sentence_transformers,
    "lightning": of_lightning,
    "accelerate": of_accelerate,
}


FOUND = Path(__file__).with_name("results") / "frameworks.json"


def keep(package: str, name: str, found: dict[str, dict[str, str]]) -> None:
    """Keep what was found of a model, with that of others of the same versions."""
    versions = {"version": importlib.metadata.version(package), "torch": torch.__version__}
    kept = load(FOUND)
    run = kept.get(package, {})
    models = run["models"] if run.items() >= versions.items() else {}
    day = {"date": date.today().isoformat()}
    save(FOUND, kept | {package: versions | day | {"models": models | {name: found}}})


def deferred(make: Make) -> nn.Module:
    """Return a model of deferred() and initialize()."""
    _ours.within = True
    try:
        with init.deferred():
            model = make()
    finally:
        _ours.within = False
    init.initialize(model, 1)
    return model


def accelerated(make: Make) -> nn.Module:
    """Return a model built within accelerate()."""
    with init.accelerate(1):
        return make()


def compare(make: Make, most: int) -> dict[str, dict[str, str]] | None:
    """Return what differs for each way; None if the authors' own code fails, or is too large."""
    try:
        with torch.device("meta"):
            if sum(p.numel() for p in make().parameters()) > most:
                return None
    except Exception:  # some constructors read values, and are small enough
        pass
    try:
        theirs = [make() for _ in range(3)]
    except Exception as error:
        print(f"    fails by itself: {type(error).__name__}: {str(error)[:120]}")
        return None
    found = {}
    for name, way in zip(make_models.WAYS, (deferred, accelerated), strict=True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found[name] = differences(theirs, way(make))
            except Exception as error:
                found[name] = {"": f"{type(error).__name__}: {str(error)[:300]}"}
        said = [
            str(w.message)
            for w in caught
            if "fastinit" in str(w.message) or "seed" in str(w.message)
        ]
        for text in dict.fromkeys(said):
            print(f"    {name} warns: {text[:160]}")
    return found


def main() -> int:
    """Compare; return how many models differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", choices=[*PACKAGES, []], help="which; all if none")
    parser.add_argument("--only", action="append", default=[], choices=PACKAGES, help="the same")
    parser.add_argument("--skip", type=int, default=0, help="models of a package, at its beginning")
    parser.add_argument("--most", type=int, default=2 * 10**7, help="parameters of a model")
    parser.add_argument("--limit", type=int, default=10**9, help="models of a package")
    options = parser.parse_args()
    define_torchvision()
    bad = 0
    for package in options.packages or options.only or PACKAGES:
        try:
            models = list(PACKAGES[package]())
        except ImportError as error:
            print(f"{package}: not here ({error})")
            continue
        equal = dict.fromkeys(make_models.WAYS, 0)
        tried = 0
        for name, make in models[options.skip :][: options.limit]:
            with torch.random.fork_rng():
                found = compare(make, options.most)
            if found is None:
                continue
            tried += 1
            keep(package, name, found)
            for way, different in found.items():
                equal[way] += not different
                bad += bool(different)
                for tensor, reason in list(different.items())[:4]:
                    print(f"    {name}, {way}: {tensor}: {reason}", flush=True)
        print(
            f"{package}: {tried} models, equal: deferred {equal['deferred']}, "
            f"accelerate {equal['accelerate']}",
            flush=True,
        )
    make_models.write_integrations()
    return bad


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(min(main(), 125))
