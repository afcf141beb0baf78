"""Whether there is a GPU here to test on."""

from recognizer.backends.cuda import use_device
from recognizer.backends.network import ModelError


def has_gpu() -> bool:
    try:
        use_device("cuda:0")
    except (ImportError, ModelError):
        return False
    return True
