"""Mode doctor: print its findings."""

import sys
from collections.abc import Sequence

from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.doctor import examine
from recognizer.doctor_backends import Finding
from recognizer.pose.settings import pose_settings
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stage_folders import pose_model_files

_SIGNS = {True: "ok      ", False: "MEND    ", None: "optional"}


def doctor(config: Config, progress: ProgressFactory) -> int:
    """Print what is installed and missing, with remedies; return 1 if anything must be mended."""
    findings = [*examine(_with_kind(config)), *_decoders(config)]
    for finding in findings:  # plain lines: a table would cut remedies short
        sys.stdout.write(f"{_SIGNS[finding.ok]}  {finding.name}: {finding.found}\n")
        if finding.remedy:
            sys.stdout.write(f"          -> {finding.remedy}\n")
    sys.stdout.write(f"{_ending(config, findings)}\n")
    return int(any(finding.ok is False for finding in findings))


def _decoders(config: Config) -> list[Finding]:
    """Return a finding for each GPU that shall decode; none if the CPU decodes."""
    if config.annotation.decoder == "cpu":
        return []
    try:  # the video packages may be missing, which other findings say
        from recognizer.runs.stage1 import decoder_gpu
        from recognizer.video.container import VideoError
    except ImportError as error:
        return [Finding("annotation.decoder: nvdec", False, str(error), "make setup")]
    findings = []
    gpus: list[int | None] = [*config.annotation.gpus] or [None]
    for gpu in gpus:
        name = (
            "annotation.decoder: nvdec" if gpu is None else f"annotation.decoder: nvdec, GPU {gpu}"
        )
        try:
            number = decoder_gpu(config, gpu)
            findings.append(Finding(name, True, f"GPU number {number} decodes"))
        except VideoError as error:
            fault, _, remedy = (
                str(error).removeprefix("annotation.decoder: nvdec: ").partition("; ")
            )
            findings.append(Finding(name, False, fault, remedy))
    return findings


def _ending(config: Config, findings: Sequence[Finding]) -> str:
    """Return the result in one line, and the next command."""
    again = next_command(config, "doctor")
    if missing := sum(finding.ok is False for finding in findings):
        return f"{missing} to mend (the lines with MEND); then once more: {again}"
    if any(one.name.startswith("models.") and one.remedy for one in findings):
        return f"nothing to mend, but reading video needs the networks above; then: {again}"
    return f"nothing to mend; next: {next_command(config, 'annotation.pipeline')}"


def _with_kind(config: Config) -> Config:
    """Return the config with the pose network's kind; unchanged if its file is missing."""
    try:
        pose = pose_settings(config, pose_model_files(config))
    except (ConfigError, ImportError, ValueError, OSError):  # the findings say what is missing
        return config
    models = config.models.model_copy(update={"pose_estimation": pose})
    return config.model_copy(update={"models": models})
