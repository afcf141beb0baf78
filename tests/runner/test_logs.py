"""What a training leaves in its work_dir: the guides' tail, grep and plotting lines work on it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.runner.logs import LATEST_JSON, LATEST_LOG, JsonRows, read_rows  # noqa: E402
from recognizer.runner.resume import LATEST  # noqa: E402
from recognizer.sdpose.hooks import SCALE  # noqa: E402
from tests.runner.small_runs import train  # noqa: E402

GUIDES = Path(__file__).resolve().parents[3] / "shared" / "specs" / "user_guides"
NAME = "sdpose_s_v1_1027_fsd_best"
LOSSES = [2.0, 1.0, 0.5, 0.25]
APS = [0.5, 0.7368, 0.7]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return the folder that holds work_dirs/<the guide's name>."""
    folder = tmp_path_factory.mktemp("place")
    train(folder / "work_dirs" / NAME, LOSSES, APS)
    return folder


def shell(place, line):
    done = subprocess.run(
        ["bash", "-c", line], cwd=place, capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout


# The guides' lines, with tail's -f, which never ends, taken out.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f"tail -n 99 work_dirs/{NAME}/*.log | grep -E 'Epoch|AP:'",
            [
                "Epoch(train) [1][4/4]",
                "Epoch(val) [2][1/1]    coco/AP: 0.7368",
                "Current best AP: 73.68",
            ],
        ),
        (f"tail -n 99 work_dirs/{NAME}/*.log | grep 'loss:'", ["loss: 0.2500"]),
        ("grep 'heatmap_loss' work_dirs/*/latest.log", ["heatmap_loss: 0.2500", SCALE]),
        (
            f"cat work_dirs/{NAME}/*.log | grep 'best_AP'",
            [
                "Current best AP: 50.00 (best_AP at epoch 1: best_coco_AP_epoch_1.pth)",
                "Current best AP: 73.68 (best_AP at epoch 2: best_coco_AP_epoch_2.pth)",
            ],
        ),
        (f"grep 'AP:' work_dirs/{NAME}/*.log", ["coco/AP: 0.7000"]),
        (
            rf"grep 'heatmap_loss\|vis_dist_loss\|kpt_dist_loss' work_dirs/{NAME}/*.log",
            [
                "vis_dist_loss: 2.500e-06  kpt_dist_loss: 2.500e-09",
                "Iter [4] loss: 0.250003, heatmap_loss: 0.250000",
            ],
        ),
        (f"ls work_dirs/{NAME}/", [LATEST, LATEST_LOG, LATEST_JSON, "training_stats.txt"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_guides_lines_find_what_they_are_for(place, line, expected):
    found = shell(place, line)
    for text in expected:
        assert text in found
    assert "loss: 0.0000 " not in found


def test_a_search_for_nan_and_inf_finds_them_only_where_they_are(place, tmp_path):
    line = r'grep -i "nan\|inf" work_dirs/*/latest.log'
    assert shell(place, line) == ""
    train(tmp_path / "work_dirs" / NAME, [1.0, float("nan"), 1.0, 1.0], [0.5])
    found = shell(tmp_path, line)
    assert "NaN or Inf loss detected" in found
    assert "heatmap_loss: nan" in found


def test_the_guides_plot_of_the_losses_runs_unchanged(place, monkeypatch):
    guide = GUIDES / "fsd_best.md"
    if not guide.is_file():
        pytest.skip("needs ../shared/specs/user_guides")
    monkeypatch.chdir(place)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    (snippet,) = re.findall(r"```python\n(import json.*?)```", guide.read_text("utf-8"), re.DOTALL)
    names = {}
    exec(compile(snippet, "fsd_best.md", "exec"), names)
    assert names["epochs"] == [1, 1, 2, 2, 3, 3]
    assert names["losses"] == pytest.approx([1.0, 0.25] * 3, rel=1e-4)
    assert (place / "fsd_best_loss.png").stat().st_size > 1000


def test_the_scale_of_the_losses_is_reported_once(place):
    assert (place / "work_dirs" / NAME / LATEST_LOG).read_text().count(SCALE) == 1


def test_latest_pth_is_another_name_of_the_last_checkpoint(place):
    folder = place / "work_dirs" / NAME
    assert (folder / LATEST).samefile(folder / "epoch_3.pth")
    assert torch.load(folder / LATEST, weights_only=True)["meta"]["epoch"] == 3
    assert not list(folder.glob("*.scratch/*"))


def test_the_best_checkpoint_can_be_gone_on_from(place):
    best = torch.load(place / "work_dirs" / NAME / "best_coco_AP_epoch_2.pth", weights_only=True)
    assert (best["meta"]["epoch"], best["meta"]["iter"]) == (2, 8)
    assert best["optimizer"]["state"]


def test_a_resumed_training_adds_to_the_logs(tmp_path):
    train(tmp_path, LOSSES, APS)
    before = [*read_rows(tmp_path / LATEST_JSON)]
    with (tmp_path / LATEST_JSON).open("a") as file:
        file.write('{"mode": "train", "epo')  # a run that was killed
    # Epoch 2 is validated once more, since its checkpoint is saved before.
    train(
        tmp_path,
        LOSSES,
        [0.7368, 0.71, 0.72],
        resume=True,
        epochs=4,
        load_from=str(tmp_path / "epoch_2.pth"),
    )
    rows = [*read_rows(tmp_path / LATEST_JSON)]
    assert rows[:6] == before[:6]
    assert [(row["mode"], row["epoch"], row["iter"]) for row in rows] == [
        place
        for epoch in (1, 2, 3, 4)
        for place in (
            ("train", epoch, 4 * epoch - 2),
            ("train", epoch, 4 * epoch),
            ("val", epoch, 4 * epoch),
        )
    ]
    log = (tmp_path / LATEST_LOG).read_text()
    assert [
        line.partition(" - ")[2].partition(";")[0]
        for line in log.splitlines()
        if " - start: " in line
    ] == ["start: epoch 1 of 3", "start: epoch 3 of 4"]


def test_rows_are_json_whatever_a_value_is(tmp_path):
    rows = JsonRows(tmp_path / LATEST_JSON, 0)
    rows.add({"mode": "train", "epoch": 1, "iter": 1, "loss": 0.5})
    rows.add({"mode": "train", "epoch": 1, "iter": 1, "loss": 0.7})
    assert [json.loads(line) for line in (tmp_path / LATEST_JSON).read_text().splitlines()] == [
        {"mode": "train", "epoch": 1, "iter": 1, "loss": 0.5}
    ]
    train(tmp_path / "w", [1.0, float("inf")], [0.5])
    (row, _) = read_rows(tmp_path / "w" / LATEST_JSON)
    assert row["loss"] is None
