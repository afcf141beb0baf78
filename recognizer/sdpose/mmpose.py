"""mmpose's names that ours build on; ``mmpose.pyi`` gives them the types that mmpose lacks."""

from recognizer.openmmlab import load_mmpose

load_mmpose()
from mmengine.structures import PixelData
from mmpose.models.backbones.base_backbone import BaseBackbone
from mmpose.models.backbones.hrnet import HRNet
from mmpose.models.backbones.resnet import Bottleneck, ResLayer
from mmpose.models.heads.base_head import BaseHead
from mmpose.models.heads.hybrid_heads.rtmo_head import RTMOHead
from mmpose.models.utils.tta import flip_heatmaps
from mmpose.registry import HOOKS, KEYPOINT_CODECS, MODELS, OPTIM_WRAPPERS
from mmpose.utils.hooks import rgetattr, rsetattr
