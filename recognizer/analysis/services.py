"""The classifiers of an analysis: find and open them, describe their windows and rules."""

from pathlib import Path
from typing import Any

from recognizer.action.classifier import Classifier, find_classifier
from recognizer.action.windows import WindowPlan
from recognizer.backends.onnx_files import model_digest
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.scoring.ranking import Service


def classifier_section(config: Config, service: Service) -> ClassifierConfig:
    """Return the settings of a service's classifier."""
    inference = config.inference
    return inference.fight if service == "fight" else inference.falldown


def classifier_path(config: Config, service: Service) -> Path:
    """Return the file of a service's classifier.

    A relative name is looked for in the working folder, in ``models.weights_dirs``, then in
    samples/models.

    Raises:
        ConfigError: there is none; the message names the places and how to make one.

    """
    name = classifier_section(config, service).model_path
    try:
        return find_classifier(name, config.models.folders())
    except FileNotFoundError as error:
        names = ", ".join(config.inference.services)
        raise ConfigError(
            f"inference.{service}.{error}. inference.services wants {names}: train one (--mode "
            f"train.{service}) and ship it (--mode deploy.export --set deploy.model={service}), "
            f"or leave {service} out of inference.services"
        ) from error


def open_classifier(config: Config, service: Service, path: Path) -> Classifier:
    """Open a classifier file.

    Raises:
        ModelError: not a classifier's file.
        ConfigError: the classifier of another service.

    """
    # One thread, whatever the machine: the workers share the cores, and results stay equal.
    classifier = Classifier(path, classifier_section(config, service), threads=1)
    if classifier.service != service:
        raise ConfigError(
            f"inference.{service}.model_path: expected a classifier for {service}, {path} is one "
            f"for {classifier.service}"
        )
    return classifier


def window_plan(config: Config, classifier: Classifier) -> WindowPlan:
    """Return the windows of a classifier.

    Raises:
        ConfigError: a stride longer than the window, which would leave frames out.

    """
    inference = config.inference
    try:
        return WindowPlan.for_classifier(
            classifier,
            stride_s=inference.stride_s,
            min_frames=config.dataset.min_frames,
            views=inference.views,
        )
    except ValueError as error:
        raise ConfigError(f"inference.{error}") from error


def describe_classifier(config: Config, classifier: Classifier) -> dict[str, Any]:
    """Return all that decides the windows of a service, for its result."""
    plan = window_plan(config, classifier)
    return {
        "file": classifier.path.name,
        "sha256": model_digest(classifier.path),
        "classes": list(classifier.classes),
        "window_s": plan.length_s,
        "stride_s": plan.stride_s,
        "num_person": classifier.metadata.sample_people,
        "min_frames": plan.min_frames,
        **({"views": list(plan.views)} if plan.views else {}),
    }


def event_rules(config: Config, classifier: Classifier) -> dict[str, float]:
    """Return how windows become events; the file's threshold where the config has none."""
    return {
        "threshold": classifier.threshold,
        "merge_gap_s": config.inference.merge_gap_s,
        "min_event_s": config.inference.min_event_s,
    }
