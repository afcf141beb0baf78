"""Classifier files of inference: whether each opens, and what it tells apart."""

from recognizer.action.classifier import Classifier, find_classifier
from recognizer.backends.network import ModelError
from recognizer.config.action import ClassifierConfig
from recognizer.config.schema import Config
from recognizer.doctor_backends import Finding
from recognizer.model_files import shortened


def examine_classifiers(config: Config) -> list[Finding]:
    """Open the classifier of each of ``inference.services`` on the CPU.

    The devices are tried by ``recognizer.doctor_backends``.
    """
    services = dict.fromkeys(config.inference.services)
    return [_classifier(config, service) for service in services]


def _classifier(config: Config, service: str) -> Finding:
    section: ClassifierConfig = getattr(config.inference, service)
    key = f"inference.{service}.model_path"
    without = [name for name in config.inference.services if name != service]
    remedy = f"--set {key}=<classifier>.onnx, or --set inference.services=[{','.join(without)}]"
    try:
        file = find_classifier(section.model_path, config.models.folders())
    except FileNotFoundError as error:
        return Finding(key, None, f"{shortened(str(error))}; only inference needs it", remedy)
    try:
        found = Classifier(file, ClassifierConfig(threshold=section.threshold))
    except (ModelError, OSError) as error:
        return Finding(key, False, str(error), remedy)
    if found.service != service:
        return Finding(key, False, f"{file} is a classifier of {found.service}", remedy)
    classes = ", ".join(found.classes)
    return Finding(key, True, f"{file} (classes: {classes}; {found.window_s:g} s windows)")
