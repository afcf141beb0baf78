"""The classifiers of an analysis: found, opened, and what decides their windows."""

from pathlib import Path
from typing import Any

from analysis.windows import WindowPlan
from recognizer.action.classifier import Classifier
from recognizer.artifacts import sha256_file
from recognizer.config import Config
from recognizer.config_action import ClassifierSection
from recognizer.config_file import ConfigError
from recognizer.scoring.ranking import Service

MODELS = Path(__file__).resolve().parents[1] / "samples" / "models"


def classifier_section(config: Config, service: Service) -> ClassifierSection:
    """Return the settings of a service's classifier."""
    inference = config.inference
    return inference.fight if service == "fight" else inference.falldown


def find_classifier(config: Config, service: Service) -> Path:
    """Return the file of a service's classifier.

    A relative name is looked for beside the shell, in ``models.weights_dirs``, then in
    samples/models.

    Raises:
        ConfigError: there is none; the message names the places and how to make one.

    """
    name = classifier_section(config, service).model_path
    places = [Path(name).expanduser()]
    if not places[0].is_absolute():
        places += [folder / name for folder in [*config.models.weights_dirs, MODELS]]
    for place in places:
        if name and place.is_file():
            return place.absolute()
    looked = ", ".join(str(place.absolute()) for place in places)
    wanted = ", ".join(config.inference.services)
    raise ConfigError(
        f"inference.{service}.model_path: inference.services wants {wanted}, so expected a "
        f"classifier file {name!r}, found none at {looked}; make one (--mode train.{service}, then "
        f"--mode deploy.export --set deploy.model={service}) and put it into one of these places, "
        f"or leave {service} out of inference.services"
    )


def open_classifier(config: Config, service: Service, path: Path) -> Classifier:
    """Open a classifier file.

    Raises:
        ModelError: a file that is no classifier.
        ConfigError: the classifier of another service.

    """
    section = classifier_section(config, service)
    section = section.model_copy(update={"model_path": str(path)})
    classifier = Classifier.open(section, config.models.weights_dirs)
    if classifier.service != service:
        raise ConfigError(
            f"inference.{service}.model_path: expected a classifier for {service}, {path} is one "
            f"for {classifier.service}"
        )
    return classifier


def window_plan(config: Config, classifier: Classifier) -> WindowPlan:
    """Return the windows that a classifier is shown.

    Raises:
        ConfigError: a stride longer than the window, which would leave frames out.

    """
    length_s, stride_s = classifier.window_s, config.inference.stride_s
    if stride_s is not None and stride_s > length_s:
        raise ConfigError(
            f"inference.stride_s: expected at most the window of {classifier.service}, "
            f"{length_s:g} s, got {stride_s:g}; frames between two windows would be lost"
        )
    return WindowPlan(length_s, stride_s or length_s / 2, config.dataset.min_frames)


def describe_classifier(config: Config, classifier: Classifier, path: Path) -> dict[str, Any]:
    """Return all that decides the windows of a service, for its result."""
    plan = window_plan(config, classifier)
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "classes": list(classifier.classes),
        "window_s": plan.length_s,
        "stride_s": plan.stride_s,
        "num_person": classifier.features.num_person,
        "min_frames": plan.min_frames,
    }


def event_rules(config: Config, classifier: Classifier) -> dict[str, float]:
    """Return how windows become events; the file's threshold where the config has none."""
    threshold = classifier_section(config, classifier.service).threshold
    return {
        "threshold": classifier.threshold if threshold is None else threshold,
        "merge_gap_s": config.inference.merge_gap_s,
        "min_event_s": config.inference.min_event_s,
    }
