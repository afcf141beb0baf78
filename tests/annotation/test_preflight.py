"""What would fail in stage 3 is found before stage 1."""

import pytest

import annotation.preflight
from annotation.preflight import check_labels
from recognizer.config.file import ConfigError, load_config
from recognizer.runs.manifest import Manifest
from recognizer.runs.stage_folders import stage2_settings
from tests.annotation.made_tracks import FALLS, stage2

VIDEOS = ["Fight/a.mp4", "Fight/b.mp4", "NonFight/c.mp4", "other/d.mp4"]


@pytest.fixture
def config(tmp_path):
    for name in VIDEOS:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "config.yaml").write_text("annotation: {input: data}\n")

    def load(*sets):
        return load_config(tmp_path / "config.yaml", sets)

    return load


def test_labelled_folders_pass_and_an_odd_one_is_for_stage_3_to_record(config):
    check_labels(config())


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["annotation.include=[Fight/*]"], "found none of NonFight among 2 videos"),
        (["dataset.classes={Normal: 0, Falldown: 1}"], "none of Normal, Falldown.*its folders"),
        (["dataset.split.source_regex=x(.)"], "source_regex"),
        (["dataset.segments={folder}/rows.csv"], "rows.csv:2"),
        (["dataset.split.sources={folder}/none.csv"], "none.csv"),
    ],
)
def test_what_cannot_work_is_refused(config, tmp_path, sets, says):
    (tmp_path / "rows.csv").write_text("video,start_s,stop_s,class\nFight/a.mp4,0,1,Brawl\n")
    with pytest.raises(ConfigError, match=says):
        check_labels(config(*(s.replace("{folder}", str(tmp_path)) for s in sets)))


def test_rows_of_videos_that_include_leaves_out_are_no_mistake(config, tmp_path):
    (tmp_path / "rows.csv").write_text(
        "video,start_s,stop_s,class\nFight/a.mp4,0,1,Fight\nFight/a.mp4,1,2,NonFight\n"
        "NonFight/c.mp4,0,1,NonFight\n"
    )
    table = f"dataset.segments={tmp_path / 'rows.csv'}"
    check_labels(config(table, "annotation.include=[Fight/a.mp4]"))
    (tmp_path / "rows.csv").write_text("video,start_s,stop_s,class\nnone.mp4,0,1,Fight\n")
    with pytest.raises(ConfigError, match=r"unknown video 'none\.mp4'"):
        check_labels(config(table))


def test_negatives_that_are_no_tracks_are_refused(config, tmp_path, monkeypatch):
    def none(config):
        raise ConfigError("no network here")

    monkeypatch.setattr(annotation.preflight, "stage1_settings", none)
    falls = stage2(tmp_path / "falls", FALLS)
    own = f"dataset.negatives=[{falls}]"
    check_labels(config(own))  # of the network stage 1 will tell
    for sets, says in (
        ([f"dataset.negatives=[{'x' * 6000}]"], "found no manifest.json in .*File name too long"),
        ([f"dataset.negatives=[{'x/' * 3000}]"], "found no manifest.json in .*File name too long"),
        ([own, "dataset.classes={Fight: 0, NonFight: 1}"], "expected the normal class"),
        ([f"dataset.negatives=[{falls}, {falls}]"], "named twice"),
        ([own, f"annotation.stage2_dir={falls}"], "the data set's own tracks"),
        ([own, "dataset.window_s=2", "dataset.negatives_s=1"], "at least the length of a window"),
    ):
        with pytest.raises(ConfigError, match=f"dataset.*{says}") as error:
            check_labels(config(*sets))
        assert len(str(error.value)) < 1000
    manifest = falls / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"stage2"', '"stage1"'))
    with pytest.raises(ConfigError, match=r"dataset\.negatives: .* got one of stage1: .*stage2"):
        check_labels(config(own))
    manifest.write_text(manifest.read_text()[:-9])
    with pytest.raises(ConfigError, match=r"dataset\.negatives: .*manifest\.json: .* again"):
        check_labels(config(own))


def test_negatives_of_other_settings_are_refused_before_stage_1(config, tmp_path, monkeypatch):
    stage1 = {"pose": {"kind": "rtmo"}, "sample_fps": None, "models": {"pose": {"file": "a.onnx"}}}
    monkeypatch.setattr(annotation.preflight, "stage1_settings", lambda config: stage1)
    settings = stage2_settings(config(), Manifest("stage1", stage1, ()))
    own = f"dataset.negatives=[{stage2(tmp_path / 'falls', FALLS, settings=settings)}]"
    check_labels(config(own))
    check_labels(config(own, "scoring.fight.movement=9"))
    with pytest.raises(ConfigError, match=r"tracking\.track_buffer_s: 1\.0 instead of 3\.0"):
        check_labels(config(own, "tracking.track_buffer_s=3.0"))
    stage1["sample_fps"] = 5.0
    with pytest.raises(ConfigError, match=r"stage1\.sample_fps: None instead of 5\.0"):
        check_labels(config(own))
