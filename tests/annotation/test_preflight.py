"""What would fail in stage 3 is found before stage 1."""

import pytest

from annotation.preflight import check_labels
from recognizer.config_file import ConfigError, load_config

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
