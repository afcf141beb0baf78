"""The schedule of RTMO's training, in a form that a resumed training follows, too.

mmpose's two hooks of this purpose act in one epoch alone, so a training that is resumed later goes
on as if they had never acted, and build a second loader that knows nothing of this project's seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dataset import Compose

from recognizer.runner.engine import HOOKS, Hook, Runner
from recognizer.sdpose.mmpose import rgetattr, rsetattr


@HOOKS.register_module()
class RTMOScheduleHook(Hook):
    """Change the head's losses from given epochs on, and the pictures in the last epochs.

    In the last epochs the head also learns boxes by an L1 loss (``use_aux_loss``). The size that
    the pictures of a batch are resized to starts anew in each epoch, so that it does not depend on
    where a training was interrupted.

    Args:
        changes: epoch (from 0) -> dotted attribute of the head -> value; it holds from then on.
        last_epochs: how many, >= 0.
        last_pipeline: transforms of the training data in the last epochs; None: as before.

    Raises:
        ValueError: a negative number of epochs.

    """

    def __init__(
        self,
        changes: Mapping[int, Mapping[str, Any]] | None = None,
        last_epochs: int = 0,
        last_pipeline: Sequence[Any] | None = None,
    ) -> None:
        self.changes = {int(epoch): dict(values) for epoch, values in (changes or {}).items()}
        if last_epochs < 0 or any(epoch < 0 for epoch in self.changes):
            raise ValueError(
                f"RTMOScheduleHook: expected epochs >= 0, got last_epochs {last_epochs} and "
                f"changes of the epochs {sorted(self.changes)}"
            )
        self.last_epochs, self.last_pipeline = last_epochs, last_pipeline
        self.switched = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Put losses, pictures and size into the state of this epoch."""
        model: Any = getattr(runner.model, "module", runner.model)
        for epoch in sorted(each for each in self.changes if each <= runner.epoch):
            self._change(runner, model.head, self.changes[epoch])
        for augment in model.data_preprocessor.batch_augments or ():
            if hasattr(augment, "_input_size"):
                augment._input_size = None
        if runner.epoch >= runner.max_epochs - self.last_epochs:
            model.head.use_aux_loss = True
            self._switch_pipeline(runner)

    def _change(self, runner: Runner, head: Any, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if rgetattr(head, name) != value:
                rsetattr(head, name, value)
                runner.logger.info(f"epoch {runner.epoch + 1}: head.{name} = {value}")

    def _switch_pipeline(self, runner: Runner) -> None:
        if self.switched or self.last_pipeline is None:
            return
        loader = runner.train_dataloader
        dataset: Any = loader.dataset
        while not hasattr(dataset, "pipeline"):
            dataset = dataset.inner if hasattr(dataset, "inner") else dataset.dataset
        dataset.pipeline = Compose(self.last_pipeline)
        loader._iterator = None  # workers that persist hold the pipeline of before
        self.switched = True
        runner.logger.info(f"epoch {runner.epoch + 1}: the last pipeline from here on")
