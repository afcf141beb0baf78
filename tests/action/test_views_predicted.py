"""The mean over views, as a trained classifier and a shipped file predict it."""

from pathlib import Path

import numpy as np

from recognizer.action.classifier import Classifier
from recognizer.action.features import network_input
from recognizer.action.views import VIEWS, views_of
from recognizer.config.action import ClassifierConfig
from tests.action.waving import sample

MODEL = Path(__file__).resolve().parents[2] / "samples" / "models" / "falldown.onnx"


def test_a_shipped_file_averages_the_sample_and_its_views():
    classifier = Classifier(MODEL, ClassifierConfig())
    whole = classifier.predict(sample(), list(VIEWS))
    rows = []
    for view in views_of(sample(), list(VIEWS)):
        feeds = {
            name: network_input(view.sample, settings, view.part)
            for name, settings in classifier.metadata.inputs.items()
        }
        rows.append(classifier.run(feeds))
    assert np.ptp(rows, axis=0).max() > 1e-6, "views that change nothing show nothing"
    np.testing.assert_allclose(whole.streams["pose"], np.mean(rows, axis=0), atol=1e-9)
    assert whole.people == classifier.predict(sample()).people
    np.testing.assert_allclose(classifier.predict(sample()).streams["pose"], rows[0], atol=1e-9)
