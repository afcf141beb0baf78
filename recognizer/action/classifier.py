"""A trained classifier as one ONNX file: opened, checked, asked for probabilities.

The file (``deploy.export`` writes it) holds the network and, in its ONNX metadata under the key
``recognizer``, all that follows from the weights: classes, window, features. Neither torch nor
mm* is needed to use it.

Only people who are there are given to the network: mmaction2 fills the other slots with zeros,
whose features are a constant of the weights, and that constant stands in the file.

A file may hold a second stream, which learnt from the movement inside the people's boxes, and the
fusion of both. Where no movement was measured the probabilities are those of the pose stream.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.action.classifier_metadata import ClassifierMetadata
from recognizer.action.features import FeatureSettings, network_input
from recognizer.action.measures import clip_measures, has_movement
from recognizer.action.movement_metadata import INPUT, POSE_OUTPUT
from recognizer.action.movement_metadata import OUTPUT as MOVEMENT_OUTPUT
from recognizer.action.views import View, average, views_of
from recognizer.backends.network import FLOAT, ModelError, TensorSpec, describe
from recognizer.backends.onnx import OnnxNetwork
from recognizer.checks import check_type
from recognizer.config.action import ClassifierConfig
from recognizer.model_files import find_file
from recognizer.scoring.ranking import Service
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.storage.artifacts import METADATA_KEY
from recognizer.types import FloatArray, Sample

__all__ = ["Classifier", "ClassifierMetadata", "Prediction", "find_classifier"]

OUTPUT = "probabilities"


@dataclass(frozen=True, slots=True)
class Prediction:
    """The probabilities of one sample, fused and by stream.

    Attributes:
        probabilities: (K,) float64, in the order of the classes, sum 1.
        people: number of people in the network's input; 0: it did not run, and label 0 has
            probability 1 by definition.
        streams: probabilities of each stream alone, (K,) each: ``pose`` and ``movement``; without
            ``movement`` where none was measured, and ``probabilities`` are those of ``pose`` then.
            Empty for a file of one stream.

    """

    probabilities: NDArray[np.float64]
    people: int
    streams: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def no_people(self) -> bool:
        """Tell whether the network saw no people."""
        return self.people == 0


class Classifier:
    """A classifier file in a session, ready to classify samples.

    Args:
        path: the ``.onnx`` file.
        section: how it is run; its threshold, where set, goes before the file's.
        threads: threads inside one operator, used where ``section.threads`` is ``auto``.

    Raises:
        ModelError: not a classifier file, or one that this version cannot use.
        TypeError: an argument of another type.

    """

    def __init__(
        self, path: str | os.PathLike[str], section: ClassifierConfig, threads: int = 1
    ) -> None:
        check_type("path", path, str, os.PathLike)
        check_type("section", section, ClassifierConfig)
        path = Path(path)
        self._network = OnnxNetwork(path, section, threads)
        text = self._network.metadata.get(METADATA_KEY)
        if text is None:
            raise ModelError(
                f"{path}: expected a classifier with metadata under {METADATA_KEY!r}, got a "
                f"network without it ({describe(self._network)}); a pose model belongs to "
                "models.pose_estimation, a classifier comes from --mode deploy.export"
            )
        try:
            self.metadata = ClassifierMetadata.from_text(text)
        except ValueError as error:
            raise ModelError(f"{path}: metadata {METADATA_KEY!r}: {error}") from error
        _check_network(path, self._network, self.metadata)
        self.path = path
        self.threshold = self.metadata.threshold if section.threshold is None else section.threshold

    @classmethod
    def open(
        cls, section: ClassifierConfig, weights_dirs: Sequence[Path] = (), threads: int = 1
    ) -> "Classifier":
        """Open the file that a config section names.

        A relative name is looked up in the working folder, then in ``weights_dirs``.

        Raises:
            FileNotFoundError: there is none; the message lists the places.
            ModelError: see ``Classifier``.

        """
        return cls(find_classifier(section.model_path, weights_dirs), section, threads)

    @property
    def service(self) -> Service:
        """Return the service: ``fight`` or ``falldown``."""
        return self.metadata.service

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes' names in the order of their labels."""
        return self.metadata.classes

    @property
    def window_s(self) -> float:
        """Return the length of the windows it was trained on, seconds."""
        return self.metadata.window_s

    @property
    def features(self) -> FeatureSettings:
        """Return the features of the first member; all members take as many people."""
        return self.metadata.features[0]

    def predict(self, sample: Sample, views: Sequence[str] = ()) -> Prediction:
        """Return the probabilities and the number of people.

        Args:
            sample: the people.
            views: names of ``views.VIEWS``; the probabilities are the mean over the sample and
                these.

        Raises:
            TypeError: no sample.
            ValueError: a sample without frames, or an unknown view.

        """
        check_type("sample", sample, Sample)
        predictions = [self._predict(view) for view in views_of(sample, views)]
        if len(predictions) == 1:
            return predictions[0]
        return Prediction(
            average([one.probabilities for one in predictions]),
            max(one.people for one in predictions),
            {
                name: average([one.streams.get(name, one.probabilities) for one in predictions])
                for name in predictions[0].streams
            },
        )

    def _predict(self, view: View) -> Prediction:
        sample = view.sample
        feeds = {
            name: network_input(sample, settings, view.part)
            for name, settings in self.metadata.inputs.items()
        }
        people = max(len(persons) for persons in feeds.values())
        if people == 0:
            certain = np.zeros(len(self.classes), np.float64)
            certain[0] = 1
            return Prediction(certain, 0)
        if self.metadata.movement is None:
            return Prediction(self.run(feeds), people)
        measured = has_movement(sample)
        measures = clip_measures(sample, self.service) if measured else None
        outputs = self._outputs(feeds, measures)
        streams = {"pose": outputs[POSE_OUTPUT]}
        if not measured:
            return Prediction(streams["pose"], people, streams)
        return Prediction(outputs[OUTPUT], people, streams | {"movement": outputs[MOVEMENT_OUTPUT]})

    def probabilities(self, sample: Sample) -> NDArray[np.float64]:
        """Return the probability of each class, (K,); see ``predict``."""
        return self.predict(sample).probabilities

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the probabilities (K,) of the pose stream for features computed before.

        Args:
            feeds: input name -> (P, clip_len, 17, C) float32 of the people present.

        """
        return self._outputs(feeds, None)[OUTPUT if self.metadata.movement is None else POSE_OUTPUT]

    def _outputs(
        self, feeds: Mapping[str, NDArray[np.float32]], measures: FloatArray | None
    ) -> dict[str, NDArray[np.float64]]:
        """Return every output, (K,) each, summing to 1; without measures zeros are used."""
        # A person may be visible to one stream and not to another. An empty input gets one empty
        # slot, which has the weight of any other empty slot.
        whole = {
            name: persons if len(persons) else np.zeros((1, *persons.shape[1:]), np.float32)
            for name, persons in feeds.items()
        }
        if self.metadata.movement is not None:
            zeros = np.zeros(len(self.metadata.movement.measures), np.float32)
            whole[INPUT] = (zeros if measures is None else measures)[None]
        rows = {name: out[0].astype(np.float64) for name, out in self._network.run(whole).items()}
        return {name: row / row.sum() for name, row in rows.items()}


def find_classifier(name: str, weights_dirs: Sequence[Path]) -> Path:
    """Return the classifier file of that name, in the working folder or ``weights_dirs``.

    Raises:
        FileNotFoundError: there is none; the message lists the places.

    """
    if not name:
        raise FileNotFoundError(
            "model_path: is not set; set it to a classifier file (.onnx), which --mode "
            "deploy.export makes"
        )
    try:
        return find_file(name, weights_dirs)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"model_path: expected a classifier file {name!r}, found none at {error}; make one "
            "with --mode deploy.export, or put it into one of models.weights_dirs"
        ) from error


# --- checks ------------------------------------------------------------------------


def _check_network(path: Path, network: OnnxNetwork, metadata: ClassifierMetadata) -> None:
    inputs = [
        _floats(name, (None, s.clip_len, NUM_KEYPOINTS, s.channels))
        for name, s in metadata.inputs.items()
    ]
    outputs = [_floats(OUTPUT, (1, len(metadata.classes)))]
    if metadata.movement is not None:
        inputs.append(_floats(INPUT, (1, len(metadata.movement.measures))))
        outputs += [_floats(name, outputs[0].shape) for name in (POSE_OUTPUT, MOVEMENT_OUTPUT)]
    if list(network.inputs) != inputs or list(network.outputs) != outputs:
        takes, gives = (", ".join(map(str, specs)) for specs in (inputs, outputs))
        raise ModelError(
            f"{path}: its metadata promises {takes} -> {gives}, the network is "
            f"{describe(network)}; export the checkpoint again"
        )


def _floats(name: str, shape: tuple[int | None, ...]) -> TensorSpec:
    return TensorSpec(name, shape, FLOAT)
