"""A trained classifier as one ONNX file: opened, checked, asked for probabilities.

The file (``deploy.export`` writes it) holds the network and, in its ONNX metadata under the key
``recognizer``, all that follows from the weights: classes, window, features. Neither torch nor
mm* is needed to use it.

Only people who are there are given to the network: mmaction2 fills the other slots with zeros,
whose features are a constant of the weights, and that constant stands in the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action.features import FeatureSettings, network_input
from recognizer.backends.network import ModelError, TensorSpec, describe
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config_action import ClassifierSection
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.types import Sample

METADATA_KEY = "recognizer"
SCHEMA = "recognizer.classifier"
SCHEMA_VERSION = 1
SERVICES = ("fight", "falldown")
OUTPUT = "probabilities"
_MAX_TEXT = 2**20
# Far above any trained model; what lies beyond was made to fill the memory.
_MAX_MEMBERS, _MAX_CLASSES, _MAX_CLIP_LEN, _MAX_PEOPLE = 32, 1000, 10_000, 100
_MIN_WINDOW_S, _MAX_WINDOW_S = 0.02, 3600.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a classifier says about a sample.

    Attributes:
        probabilities: (K,) float64, in the order of the classes, sum 1.
        people: how many people the network was shown; 0: nobody was there, the network was not
            asked, and label 0 has probability 1 by definition.

    """

    probabilities: NDArray[np.float64]
    people: int

    @property
    def nobody(self) -> bool:
        """Tell whether there was nobody to judge."""
        return self.people == 0


@dataclass(frozen=True, slots=True)
class ClassifierFacts:
    """What stands in a classifier file beside the network.

    Attributes:
        service: "fight" or "falldown".
        classes: names in the order of their labels; label 0 is the normal class.
        window_s: length of the windows it was trained on, seconds.
        threshold: probability from which a window counts as an event.
        features: one per member of the ensemble whose probabilities are averaged; equal settings
            share one input.
        training: digests and names of what it was trained from; figures that measured it.
        created_by: version that wrote the file.

    """

    service: str
    classes: tuple[str, ...]
    window_s: float
    threshold: float
    features: tuple[FeatureSettings, ...]
    training: Mapping[str, Any]
    created_by: str

    @property
    def inputs(self) -> dict[str, FeatureSettings]:
        """Return the network's inputs: ``persons``, or ``persons_0``, ... if they differ."""
        distinct = list(dict.fromkeys(self.features))
        if len(distinct) == 1:
            return {"persons": distinct[0]}
        return {f"persons_{i}": settings for i, settings in enumerate(distinct)}

    @property
    def num_person(self) -> int:
        """Return how many people at most the network is shown."""
        return self.features[0].num_person

    def to_text(self) -> str:
        """Return the JSON text that stands in the file."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "version": SCHEMA_VERSION,
                "service": self.service,
                "classes": list(self.classes),
                "window_s": self.window_s,
                "threshold": self.threshold,
                "num_person": self.num_person,
                "features": [settings.to_json() for settings in self.features],
                "training": dict(self.training),
                "created_by": self.created_by,
            },
            sort_keys=True,
            allow_nan=False,
        )

    @classmethod
    def from_text(cls, text: str) -> "ClassifierFacts":
        """Read what ``to_text`` wrote, trusting nothing in it.

        Raises:
            ValueError: not this schema and version, or a value that cannot be; named.

        """
        value = _json_object(text)
        if value.get("schema") != SCHEMA or value.get("version") != SCHEMA_VERSION:
            raise ValueError(
                f"expected schema {SCHEMA} version {SCHEMA_VERSION}, got "
                f"{_short(value.get('schema'))} version {_short(value.get('version'))}; export "
                "the checkpoint again (--mode deploy.export) with this version"
            )
        if value.get("service") not in SERVICES:
            raise ValueError(
                f"service: expected one of {SERVICES}, got {_short_of(value, 'service')}"
            )
        if not isinstance(value.get("training"), dict):
            raise ValueError(f"training: expected an object, got {_short_of(value, 'training')}")
        if not isinstance(value.get("created_by"), str):
            raise ValueError(f"created_by: expected a text, got {_short_of(value, 'created_by')}")
        facts = cls(
            service=value["service"],
            classes=_classes(value.get("classes")),
            window_s=_number(value, "window_s", _MIN_WINDOW_S, _MAX_WINDOW_S),
            threshold=_number(value, "threshold", 0.0, 1.0),
            features=_features(value.get("features")),
            training=value["training"],
            created_by=value["created_by"],
        )
        if facts.window_s == 0 or value.get("num_person") != facts.num_person:
            raise ValueError(
                f"expected window_s above 0 and num_person {facts.num_person}, got "
                f"{facts.window_s:g} and {_short_of(value, 'num_person')}"
            )
        return facts


class Classifier:
    """A classifier file in a session, ready to judge samples.

    Args:
        path: the ``.onnx`` file.
        section: how it is run; its threshold, where set, goes before the file's.
        threads: threads inside one operator, used where ``section.threads`` is ``auto``.

    Raises:
        ModelError: not a classifier file, or one that this version cannot use.

    """

    def __init__(self, path: Path, section: ClassifierSection, threads: int = 1) -> None:
        self._network = OnnxNetwork(path, section, threads)
        text = self._network.metadata.get(METADATA_KEY)
        if text is None:
            raise ModelError(
                f"{path}: expected a classifier with metadata under {METADATA_KEY!r}, got a "
                f"network without it ({describe(self._network)}); a pose model belongs to "
                "models.pose_estimation, a classifier comes from --mode deploy.export"
            )
        try:
            self.facts = ClassifierFacts.from_text(text)
        except ValueError as error:
            raise ModelError(f"{path}: metadata {METADATA_KEY!r}: {error}") from error
        _check_network(path, self._network, self.facts)
        self.path = path
        self.threshold = self.facts.threshold if section.threshold is None else section.threshold

    @classmethod
    def open(
        cls, section: ClassifierSection, weights_dirs: Sequence[Path] = (), threads: int = 1
    ) -> "Classifier":
        """Open the file that a config section names.

        A relative name is looked for beside the shell, then in ``weights_dirs``.

        Raises:
            FileNotFoundError: there is none; the message lists where it was looked for.
            ModelError: see ``Classifier``.

        """
        return cls(find_classifier(section.model_path, weights_dirs), section, threads)

    @property
    def service(self) -> str:
        """Return what it looks for: "fight" or "falldown"."""
        return self.facts.service

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes' names in the order of their labels."""
        return self.facts.classes

    @property
    def window_s(self) -> float:
        """Return the length of the windows it was trained on, seconds."""
        return self.facts.window_s

    @property
    def features(self) -> FeatureSettings:
        """Return the features of the first member; all members take as many people."""
        return self.facts.features[0]

    def judge(self, sample: Sample) -> Judgement:
        """Return probabilities and how many people they are about.

        Raises:
            ValueError: a sample without frames.

        """
        feeds = {
            name: network_input(sample, settings) for name, settings in self.facts.inputs.items()
        }
        people = max(len(persons) for persons in feeds.values())
        if people == 0:
            certain = np.zeros(len(self.classes), np.float64)
            certain[0] = 1
            return Judgement(certain, 0)
        return Judgement(self.run(feeds), people)

    def probabilities(self, sample: Sample) -> NDArray[np.float64]:
        """Return the probability of each class, (K,); see ``judge``."""
        return self.judge(sample).probabilities

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the probabilities (K,) of features that were made before.

        Args:
            feeds: input name -> (P, clip_len, 17, C) float32 of the people present.

        """
        # To one stream somebody may be there who to another is not; where that leaves a stream
        # empty, one empty slot stands for it, which is what the other slots count as anyway.
        whole = {
            name: persons if len(persons) else np.zeros((1, *persons.shape[1:]), np.float32)
            for name, persons in feeds.items()
        }
        out = self._network.run(whole)[OUTPUT][0].astype(np.float64)
        probabilities: NDArray[np.float64] = out / out.sum()
        return probabilities


def find_classifier(name: str, weights_dirs: Sequence[Path]) -> Path:
    """Return the classifier file of that name, beside the shell or in ``weights_dirs``.

    Raises:
        FileNotFoundError: there is none; the message lists where it was looked for.

    """
    if not name:
        raise FileNotFoundError(
            "model_path: is not set; set it to a classifier file (.onnx), which --mode "
            "deploy.export makes"
        )
    places = [Path(name).expanduser()]
    if not places[0].is_absolute():
        places += [folder / name for folder in weights_dirs]
    for place in places:
        if place.is_file():
            return place.absolute()
    looked = ", ".join(str(place.absolute()) for place in places)
    raise FileNotFoundError(
        f"model_path: expected a classifier file {name!r}, found none at {looked}; make one with "
        "--mode deploy.export, or put it into one of models.weights_dirs"
    )


# --- checks ------------------------------------------------------------------------


def _check_network(path: Path, network: OnnxNetwork, facts: ClassifierFacts) -> None:
    wanted = [
        TensorSpec(name, (None, s.clip_len, NUM_KEYPOINTS, s.channels), "tensor(float)")
        for name, s in facts.inputs.items()
    ]
    output = TensorSpec(OUTPUT, (1, len(facts.classes)), "tensor(float)")
    if list(network.inputs) != wanted or list(network.outputs) != [output]:
        inputs = ", ".join(str(spec) for spec in wanted)
        raise ModelError(
            f"{path}: its metadata promises {inputs} -> {output}, the network is "
            f"{describe(network)}; export the checkpoint again"
        )


def _json_object(text: str) -> dict[str, Any]:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected at most {_MAX_TEXT} characters, got {len(text)}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {_short(value)}")
    return value


def _classes(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else []
    # Names go to the console, and control characters would steer it.
    right = all(isinstance(n, str) and n.strip() and n.isprintable() for n in names)
    if not (right and 2 <= len(names) <= _MAX_CLASSES and len(set(names)) == len(names)):
        raise ValueError(f"classes: expected two or more different names, got {_short(value)}")
    return tuple(names)


def _number(value: Mapping[str, Any], key: str, low: float, high: float) -> float:
    number: Any = value.get(key)
    # NaN is not between anything either.
    if type(number) not in (int, float) or not low <= number <= high:
        raise ValueError(f"{key}: expected {low:g} to {high:g}, got {_short(number)}")
    return float(number)


def _features(value: Any) -> tuple[FeatureSettings, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_MEMBERS:
        raise ValueError(f"features: expected 1 to {_MAX_MEMBERS} members, got {_short(value)}")
    try:
        members = tuple(FeatureSettings.from_json(item) for item in value)
        people = {settings.num_person for settings in members}
    except TypeError as error:  # a list where a name belongs
        raise ValueError(f"features: {error}") from error
    if len(people) > 1 or max(people) > _MAX_PEOPLE:
        raise ValueError(
            f"features: expected one num_person, at most {_MAX_PEOPLE}, got {sorted(people)}"
        )
    if max(settings.clip_len for settings in members) > _MAX_CLIP_LEN:
        raise ValueError(f"features: expected clip_len at most {_MAX_CLIP_LEN}")
    return members


def _short_of(value: Mapping[str, Any], key: str) -> str:
    return _short(value.get(key))


def _short(value: Any) -> str:
    return repr(value)[:60]
