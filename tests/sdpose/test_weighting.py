"""What each distillation loss promises beyond what all share: masks, schedule, joints, masking."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.logging import MessageHub  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402

from recognizer.sdpose.foreground import foreground_mask, token_foreground  # noqa: E402
from recognizer.sdpose.losses import (  # noqa: E402
    AdaptiveForegroundDistilLoss,
    DynamicForegroundDistilLoss,
    ForegroundTokenDistilLoss,
    MaskedTokenDistilLoss,
    TokenDistilLoss,
)
from tests.sdpose.tokens import CASES, JOINTS, WEIGHT, inputs, peaks, plain_loss  # noqa: E402

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)
VISUAL, JOINT = CASES["token"], CASES["adaptive"]


def token_gradients(loss, given_):
    """Return the size of each token's gradient (N, T) where all differences are equal."""
    student = torch.ones_like(given_["student"]).requires_grad_()
    loss(**{**given_, "student": student, "teacher": torch.zeros_like(student)}).backward()
    return student.grad.sum(-1)


# --- the token loss ---------------------------------------------------------------


def test_without_detaching_the_teacher_moves_towards_the_student():
    given_ = inputs(VISUAL)
    TokenDistilLoss(WEIGHT)(**given_).backward()
    torch.testing.assert_close(given_["teacher"].grad, -given_["student"].grad)
    expected = 2 * WEIGHT * (given_["student"] - given_["teacher"]) / given_["student"].numel()
    torch.testing.assert_close(given_["student"].grad, expected.detach())


# --- foreground -------------------------------------------------------------------


@given(seed=seeds, outside=st.floats(0, 2), more=st.floats(0, 3), level=st.floats(-1, 1))
@few
def test_the_loss_lies_between_all_background_and_all_foreground(seed, outside, more, level):
    given_ = inputs(VISUAL, seed)
    given_["heatmaps"] = given_["heatmaps"] + level
    value = ForegroundTokenDistilLoss(WEIGHT, outside + more, outside)(**given_).item()
    plain = plain_loss(given_).item()
    slack = 1e-5 * plain
    assert outside * plain - slack <= value <= (outside + more) * plain + slack


@given(seed=seeds, weight=st.floats(0, 5))
@few
def test_equal_weights_scale_the_plain_loss(seed, weight):
    given_ = inputs(VISUAL, seed)
    value = ForegroundTokenDistilLoss(WEIGHT, weight, weight)(**given_).item()
    assert value == pytest.approx(weight * plain_loss(given_).item(), rel=1e-5)


@given(threshold=st.floats(1e-3, 1), temperature=st.floats(1e-320, 1e3, exclude_min=True))
@few
def test_the_mask_is_a_half_at_the_threshold_at_every_temperature(threshold, temperature):
    at_threshold = torch.full((1, 2, 2, 2), threshold)
    assert foreground_mask(at_threshold, threshold, temperature).eq(0.5).all()


@given(seed=seeds, low=st.floats(0.01, 0.9), more=st.floats(1e-3, 0.5), soft=st.floats(0.3, 3))
@few
def test_a_higher_threshold_leaves_less_foreground(seed, low, more, soft):
    heatmaps = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    heatmaps[0, :, 0, 0] = low  # somewhere the mask is not saturated
    wide, narrow = (foreground_mask(heatmaps, t, soft).mean() for t in (low, low + more))
    assert narrow < wide


@given(seed=seeds, threshold=st.floats(0.05, 0.9))
@few
def test_as_the_temperature_goes_to_0_the_mask_becomes_hard(seed, threshold):
    heatmaps = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5
    mask = foreground_mask(heatmaps, threshold, 1e-30)
    assert torch.equal(mask, (heatmaps.amax(1) > threshold).float())


def test_the_mask_is_the_sigmoid_of_the_definition():
    heatmaps = torch.tensor([0.0, 0.05, 0.1, 0.2, 1.0]).view(1, 1, 1, 5)
    lower = heatmaps - 0.3  # the highest joint counts, not the last or the mean
    mask = foreground_mask(torch.cat([heatmaps, lower], 1), 0.1, 0.8).flatten()
    expected = [1 / (1 + math.exp(-4 * (h - 0.1) / 0.08)) for h in (0, 0.05, 0.1, 0.2, 1)]
    assert mask.tolist() == pytest.approx(expected, rel=1e-5)


@given(row=st.integers(0, 3), column=st.integers(0, 2))
@few
def test_a_hot_spot_in_one_cell_changes_the_weight_of_that_token_only(row, column):
    """On a grid that is not square, so that rows and columns cannot be exchanged unseen."""
    given_ = inputs(VISUAL, grid=(4, 3))
    given_["heatmaps"] = torch.zeros(3, JOINTS, 16, 9)
    loss = ForegroundTokenDistilLoss(WEIGHT, 4.0, 0.5, temperature=0.1)
    cold = token_gradients(loss, given_)
    given_["heatmaps"][1, 2, 4 * row : 4 * row + 4, 3 * column : 3 * column + 3] = 1.0
    hot = token_gradients(loss, given_)
    assert (hot != cold).nonzero().tolist() == [[1, 3 * row + column]]
    assert (hot / cold).max().item() == pytest.approx(8, rel=1e-4)  # 4 / 0.5, exactly as asked
    assert cold[0, 0].item() == pytest.approx(0.5 * WEIGHT * 2 / (3 * 12), rel=1e-5)


def test_a_tokens_weight_is_the_mean_over_its_cell():
    heatmaps = torch.zeros(1, 1, 4, 6)
    heatmaps[0, 0, 0, 0] = 1.0
    cells = token_foreground(heatmaps, (2, 3), 0.1, 0.1).squeeze(0)
    assert cells.tolist() == pytest.approx([0.25, 0, 0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "ratio"), [((2.0, 0.5, 0.1, 1.0), 0.885), ((3.0, 0.3, 0.08, 0.8), 1.02)]
)
def test_the_scale_of_the_log_stays_with_seventeen_joints(options, ratio):
    """The specification's figures are of some person: they lie within the spread over many."""
    make = torch.Generator().manual_seed(0)
    corner, span = torch.tensor([8.0, 8.0]), torch.tensor([48.0, 32.0])  # inside the padding
    ratios = torch.empty(100)
    for person in range(100):
        at = (corner + span * torch.rand(17, 2, generator=make)).tolist()
        tokens = torch.zeros(1, 256, 8), torch.ones(1, 256, 8)
        loss = ForegroundTokenDistilLoss(1.0, *options)
        ratios[person] = loss(*tokens, peaks(at), (16, 16))
    assert abs(ratios.mean() - ratio) < ratios.std() < 0.07


# --- dynamic ----------------------------------------------------------------------


def scheduled(epoch, start=50, end=150):
    loss = DynamicForegroundDistilLoss(WEIGHT, start, end)
    loss.set_epoch(epoch)
    return loss


@given(epoch=st.floats(0, 300), start=st.integers(0, 200), length=st.integers(0, 150))
@few
def test_the_weights_grow_from_1_between_start_and_end(epoch, start, length):
    given_ = inputs(VISUAL)
    done = min(max((epoch - start) / length, 0), 1) if length else float(epoch > start)
    fixed = ForegroundTokenDistilLoss(WEIGHT, 1 + 2 * done, 1 - 0.7 * done)
    value = scheduled(epoch, start, start + length)(**given_).item()
    assert value == pytest.approx(fixed(**given_).item(), rel=1e-5)


@given(seed=seeds, epoch=st.integers(0, 50))
@few
def test_up_to_the_start_it_is_the_plain_loss_bit_by_bit(seed, epoch):
    given_ = inputs(VISUAL, seed)
    for loss in (scheduled(epoch), scheduled(epoch, epoch, epoch)):  # a step leaves its start out
        assert loss(**given_).item() == TokenDistilLoss(WEIGHT)(**given_).item()


@pytest.fixture
def hub():
    """A hub of this test's own, as a runner makes it; the current one while the test runs."""
    name = "test of the schedule"
    MessageHub._instance_dict.pop(name, None)
    yield MessageHub.get_instance(name)
    MessageHub._instance_dict.pop(name)


def test_where_nobody_sets_it_the_epoch_is_that_of_the_current_hub(hub):
    loss = DynamicForegroundDistilLoss(WEIGHT)
    assert loss.progress() == 0  # a hub that knows no epoch yet
    hub.update_info("epoch", 100)
    assert loss.progress() == 0.5
    assert loss(**inputs(VISUAL)).item() == scheduled(100)(**inputs(VISUAL)).item()


def test_an_epoch_that_was_set_stays_whatever_the_hub_says(hub):
    loss = scheduled(75)
    hub.update_info("epoch", 150)
    assert loss.progress() == 0.25
    with pytest.raises(ValueError, match="epoch: expected a number >= 0, got nan"):
        loss.set_epoch(math.nan)


def test_the_schedule_is_not_part_of_the_weights():
    loss = scheduled(150)
    loss(**inputs(VISUAL))
    assert not loss.state_dict()


def test_compiled_it_follows_the_epochs_without_compiling_for_each():
    torch._dynamo.reset()
    compiles = []

    def backend(graph, _):
        compiles.append(graph)
        return graph.forward

    loss = DynamicForegroundDistilLoss(WEIGHT)
    compiled, given_ = torch.compile(loss, backend=backend), inputs(VISUAL)
    seen = []
    for epoch in range(40, 160, 5):
        loss.set_epoch(epoch)
        assert compiled(**given_).item() == loss(**given_).item()
        seen.append(len(compiles))
    assert seen[-1] == seen[2] < 10


# --- adaptive ---------------------------------------------------------------------


def adaptive(logits=None, **options):
    loss = AdaptiveForegroundDistilLoss(WEIGHT, JOINTS, **options)
    if logits is not None:
        loss.keypoint_logits.data = torch.tensor(logits)
    return loss


logits = st.lists(st.floats(-20, 20, width=32), min_size=JOINTS, max_size=JOINTS)


@given(logits=logits)
@few
def test_the_learnt_weights_are_positive_and_add_up_to_the_number_of_joints(logits):
    loss = adaptive(logits)
    assert [p.shape for p in loss.parameters()] == [(JOINTS,)]
    assert not list(adaptive(use_keypoint_guidance=False).parameters())
    assert loss.keypoint_weights().sum().item() == pytest.approx(JOINTS, rel=1e-5)
    assert loss.keypoint_weights().min() > 0


@given(seed=seeds, logits=logits, shown=st.lists(st.booleans(), min_size=15, max_size=15))
@few
def test_per_person_the_weights_have_mean_1_over_the_visible_joints(seed, logits, shown):
    given_ = inputs(JOINT, seed)
    given_["visible"] = torch.tensor(shown).view(3, JOINTS).float()
    gradients = token_gradients(adaptive(logits, balance=0), given_)
    weights = gradients * max(sum(shown), 1) / (2 * WEIGHT)
    assert weights[given_["visible"] == 0].eq(0).all()
    torch.testing.assert_close(weights.sum(1), given_["visible"].sum(1), rtol=1e-3, atol=1e-5)


@given(seed=seeds, logits=logits)
@few
def test_it_is_the_sum_of_the_definition(seed, logits):
    given_ = inputs(JOINT, seed)
    visible = given_["visible"] = (given_["heatmaps"][:, :, 0, 0] > 0.2).float()
    e = (given_["student"] - given_["teacher"]).square().mean(-1)
    a = JOINTS * torch.tensor(logits).double().softmax(0)
    r = visible * a * (given_["heatmaps"].amax((2, 3)).clamp(0, 1) + 0.05)
    w = r * visible.sum(1, keepdim=True) / r.sum(1, keepdim=True).clamp(min=1e-30)
    total = visible.sum().clamp(min=1)
    second = 0.7 * (visible * e).sum() / total * -a.log().mean()
    expected = WEIGHT * ((w * e).sum() / total + second)
    value = adaptive(logits, balance=0.7)(**given_)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    assert value.item() >= 0


def test_the_second_term_teaches_the_weights_only():
    given_, gradients = inputs(JOINT), []
    for balance in (0, 5):
        loss = adaptive([3.0, -1, 0, 0, 0], balance=balance)
        loss(**given_).backward()
        gradients.append((given_["student"].grad.clone(), loss.keypoint_logits.grad))
        given_["student"].grad = None
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("guided", [True, False])
def test_a_batch_without_a_visible_joint_gives_0_with_its_graph(guided):
    given_ = inputs(JOINT)
    given_["visible"] = torch.zeros(3, JOINTS)
    loss = adaptive(use_keypoint_guidance=guided)
    value = loss(**given_)
    value.backward()
    assert value.item() == 0
    assert given_["student"].grad.eq(0).all()
    assert all(p.grad.eq(0).all() for p in loss.parameters())


@pytest.mark.parametrize("hard", range(JOINTS))
def test_no_joint_is_switched_off_by_learning(hard):
    given_ = inputs(JOINT)
    given_["teacher"] = torch.zeros_like(given_["teacher"])
    given_["student"] = torch.full_like(given_["teacher"], 0.1)
    given_["student"][:, hard] = 10.0
    given_["heatmaps"] = torch.full((3, JOINTS, 8, 9), 0.9)
    loss = adaptive()
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        loss(**given_).backward()
        optimiser.step()
    weights = loss.keypoint_weights().detach()
    assert weights.argmin().item() == hard
    assert weights.min() > 0.1
    assert loss.keypoint_logits.detach().abs().max() < 5  # nor does anything run away
    assert loss.keypoint_logits.grad.abs().max() < 0.01 * WEIGHT * 20  # it has come to rest


@given(seed=seeds, depth=st.floats(0, 1e4))
@few
def test_negative_peaks_count_as_none(seed, depth):
    given_ = inputs(JOINT, seed)
    given_["heatmaps"] = -depth * torch.rand(3, JOINTS, 8, 9)
    none = {**given_, "heatmaps": torch.zeros(3, JOINTS, 8, 9)}
    assert adaptive()(**given_).item() == adaptive()(**none).item()


def test_a_joint_that_the_teacher_sees_counts_more():
    given_ = inputs(JOINT)
    given_["heatmaps"] = torch.zeros(3, JOINTS, 8, 9)
    given_["heatmaps"][:, 2, 4, 4] = 0.95
    gradients = token_gradients(adaptive(), given_)
    assert (gradients[:, 2] / gradients[:, 0]).tolist() == pytest.approx([20] * 3, rel=1e-4)


def test_another_number_of_tokens_is_refused():
    with pytest.raises(ValueError, match="expected 5 keypoint tokens, got 6; set num_keypoints"):
        adaptive()(**inputs(VISUAL))


def test_the_documented_config_excepts_the_logits_from_weight_decay():
    model = torch.nn.ModuleDict({"head": adaptive(), "layer": torch.nn.Linear(2, 2)})
    config = {
        "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1},
        "paramwise_cfg": {"custom_keys": {"keypoint_logits": {"decay_mult": 0}}},
    }
    assert "custom_keys={'keypoint_logits': dict(decay_mult=0)}" in adaptive().__doc__
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "head.keypoint_logits": 0,
        "layer.weight": 0.1,
        "layer.bias": 0.1,
    }


# --- masked -----------------------------------------------------------------------


@given(seed=seeds, ratio=st.floats(0, 1, exclude_max=True), gh=st.integers(1, 5))
@few
@pytest.mark.parametrize("strategy", ["random", "importance"])
def test_so_many_tokens_of_each_sample_are_left_out(strategy, seed, ratio, gh):
    given_ = inputs(VISUAL, seed, grid=(gh, 3))
    torch.manual_seed(seed)
    gradients = token_gradients(MaskedTokenDistilLoss(WEIGHT, ratio, strategy), given_)
    left_out = min(round(ratio * gh * 3), gh * 3 - 1)
    assert gradients.eq(0).sum(1).tolist() == [left_out] * 3
    kept = gradients[gradients != 0]
    assert kept.tolist() == pytest.approx([2 * WEIGHT / (3 * (gh * 3 - left_out))] * len(kept))


def test_which_are_left_out_follows_from_the_seed_and_differs_per_sample_and_call():
    loss, given_ = MaskedTokenDistilLoss(WEIGHT, 0.5), inputs(VISUAL, grid=(4, 5))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append([token_gradients(loss, given_).eq(0) for _ in range(2)])
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert not torch.equal(drawn[0][0][0], drawn[0][0][1])


def test_each_token_is_left_out_as_often_as_the_next():
    torch.manual_seed(0)
    loss, given_ = MaskedTokenDistilLoss(WEIGHT, 0.5), inputs(VISUAL, n=2000, grid=(2, 3), d=1)
    share = token_gradients(loss, given_).eq(0).float().mean(0)
    assert share.tolist() == pytest.approx([0.5] * 6, abs=0.05)


@given(order=st.permutations(range(6)))
@few
def test_by_importance_the_cells_with_the_least_foreground_are_left_out(order):
    given_ = inputs(VISUAL, grid=(2, 3))
    levels = torch.tensor(order).view(2, 3).float() / 10
    given_["heatmaps"] = levels.repeat_interleave(4, 0).repeat_interleave(3, 1).expand(3, 5, 8, 9)
    gradients = token_gradients(MaskedTokenDistilLoss(WEIGHT, 0.5, "importance"), given_)
    assert gradients[0].eq(0).tolist() == [rank < 3 for rank in order]


def test_by_importance_the_joints_with_the_lowest_visible_peaks_are_left_out():
    given_ = inputs(JOINT)
    given_["heatmaps"] = torch.tensor([0.9, 0.2, 0.5, 0.3, 0.7]).view(1, 5, 1, 1).expand(3, 5, 8, 9)
    given_["visible"] = torch.tensor([[1.0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 0.1]])
    gradients = token_gradients(MaskedTokenDistilLoss(WEIGHT, 0.4, "importance"), given_)
    left_out = [row.eq(0).nonzero().flatten().tolist() for row in gradients]
    assert left_out == [[1, 3], [0, 1], [1, 4]]
