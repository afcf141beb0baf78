"""CCTV video to trained, deployable detectors of fights and falls.

Importing this package loads neither torch nor mm* nor onnxruntime: each module
imports what it needs when it is used.
"""

__version__ = "0.1.0"
