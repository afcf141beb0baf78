"""mmaction2's names that ours build on; ``mmaction.pyi`` gives them the types that they lack."""

from recognizer.openmmlab import load_mmaction

load_mmaction()
from mmaction.datasets import PoseDataset
from mmaction.datasets.transforms import RandomRescale as ImageRescale
from mmaction.models.backbones.stgcn import STGCN, STGCNBlock
from mmaction.models.heads.gcn_head import GCNHead
from mmaction.models.utils import mstcn, unit_gcn, unit_tcn
from mmaction.registry import DATASETS, HOOKS, MODELS, OPTIM_WRAPPERS, TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.dataset.base_dataset import force_full_init
