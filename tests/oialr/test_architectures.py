"""Networks of timm and torchvision: at full rank each computes what it did, low-rank and merged."""

import copy

import pytest
import timm
import torch
import torchvision.models as tv
from timm.layers import GatedMlp
from timm.models.convmixer import ConvMixer
from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock, SpatialGatingBlock
from timm.models.vgg import VGG
from torch import nn

from oialr_hpo.oialr import OIALR

TIMM = {
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 2},
    "deit_tiny_distilled_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 1},
    "deit3_small_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 1},
    "beit_base_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 96, "num_heads": 3},
    "eva02_tiny_patch14_224": {"img_size": 32, "patch_size": 8, "depth": 1},
    "cait_xxs24_224": {"img_size": 32, "patch_size": 8, "depth": 1},
    "xcit_nano_12_p16_224": {"img_size": 32, "depth": 1},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "window_size": 4, "depths": (1, 1), "num_heads": (3, 6)},
    "swinv2_cr_tiny_224": {"img_size": 64, "window_size": 4, "depths": (1, 1), "num_heads": (3, 6)},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)},
    "mobilevit_xxs": {},
    "edgenext_xx_small": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)},
    "resnet18": {"channels": (16, 24, 32, 48)},
    "resnet26d": {"channels": (8, 16, 24, 32)},
    "resnetrs50": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)},
    "dla46_c": {},
    "test_efficientnet": {},
    "mobilenetv3_small_050": {},
    "ghostnet_050": {},
}
BUILT = {
    "timm vgg": lambda: VGG([16, "M", 32, "M", 48, "M", 64, "M", 64, "M"], num_classes=7, mlp_ratio=1 / 64),
    "mlp mixer": lambda: MlpMixer(7, 32, patch_size=8, num_blocks=2, embed_dim=64),
    "gmlp": lambda: MlpMixer(
        7, 32, patch_size=8, num_blocks=2, embed_dim=64, block_layer=SpatialGatingBlock, mlp_layer=GatedMlp, mlp_ratio=4
    ),
    "resmlp": lambda: MlpMixer(
        7, 32, patch_size=8, num_blocks=2, embed_dim=64, block_layer=ResBlock, norm_layer=Affine, mlp_ratio=4
    ),
    "convmixer": lambda: ConvMixer(dim=64, depth=2, kernel_size=5, patch_size=4, num_classes=7),
    "torchvision vit": lambda: tv.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=7),
    "torchvision swin": lambda: tv.SwinTransformer([4, 4], 32, [1, 1], [2, 4], [4, 4], num_classes=7),
    "torchvision convnext": lambda: tv.ConvNeXt(
        [tv.convnext.CNBlockConfig(16, 32, 1), tv.convnext.CNBlockConfig(32, None, 1)], num_classes=7
    ),
    "torchvision vgg": lambda: nn.Sequential(
        tv.vgg.make_layers([16, "M", 32, "M", 48, "M"], batch_norm=True), nn.Flatten(), nn.Linear(768, 7)
    ),
    "torchvision squeezenet": lambda: tv.squeezenet1_1(num_classes=7),
    "torchvision mobilenet": lambda: tv.mobilenet_v2(width_mult=0.35, num_classes=7),
    "torchvision mnasnet": lambda: tv.mnasnet0_5(num_classes=7),
    "torchvision shufflenet": lambda: tv.shufflenet_v2_x0_5(num_classes=7),
    "torchvision densenet": lambda: tv.DenseNet(8, (2, 2, 2, 2), 16, num_classes=7),
}
SIZE = {"swin_tiny_patch4_window7_224": 64, "swinv2_cr_tiny_224": 64, "edgenext_xx_small": 64, "mobilevit_xxs": 64}


def build(name: str) -> nn.Module:
    return BUILT[name]() if name in BUILT else timm.create_model(name, num_classes=7, **TIMM[name])


@torch.no_grad()
def awake(model: nn.Module) -> nn.Module:
    """No layer switched off, as by zero heads and tiny layer scales before training."""
    for p in model.parameters():
        if p.dim() >= 2 and not p.any():
            nn.init.normal_(p, std=0.1)
        elif p.abs().max() < 0.01:
            p.add_(torch.empty_like(p).uniform_(0.2, 0.4))
    return model.eval()


@pytest.mark.parametrize("name", [*TIMM, *BUILT])
def test_at_full_rank_outputs_and_gradients_are_the_dense_networks(name):
    torch.manual_seed(0)
    model = awake(build(name))
    size = SIZE.get(name, 32)
    x = torch.randn(2, 3, size, size)
    for network, share in ((copy.deepcopy(model).double(), 1e-9), (model, 1e-4)):
        assert_same_after_conversion(network, x.to(next(network.parameters())), share)


def assert_same_after_conversion(model, x, share):
    """Outputs low-rank and merged, and in float64 the gradients, to within a share of the largest entry."""
    expected = model(x)
    dy = torch.randn_like(expected)
    weights = {name: p for name, p in model.named_parameters() if p.dim() >= 2}
    gradients = torch.autograd.grad(expected, list(weights.values()), dy, allow_unused=True)
    gradient = dict(zip(weights, gradients, strict=True))
    oialr = OIALR(model, delay=0, frequency=1)
    assert len(oialr.ranks) >= 3
    y = model(x)
    y.backward(dy)
    for layer in oialr.ranks if x.dtype == torch.float64 else ():
        module = model.get_submodule(layer)
        original = f"{layer}.weight" if f"{layer}.weight" in gradient else f"{layer}_weight"
        sigma_gradient = module.u.t() @ gradient[original].flatten(1) @ module.vt.t()
        assert (module.sigma.grad - sigma_gradient).abs().max() <= 1e-6 * sigma_gradient.abs().max() + 1e-12, layer
    oialr.merge()
    assert not any(key.endswith("sigma") for key in model.state_dict())
    for reached in (y, model(x)):
        assert (reached - expected).abs().max() < share * max(1.0, expected.abs().max().item())
