"""The invariants that all distillation losses share, one test each, tried on each loss."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.openmmlab import scope  # noqa: E402
from recognizer.sdpose.losses import MODELS  # noqa: E402
from tests.sdpose.tokens import CASES, JOINTS, WEIGHT, Case, inputs, plain_loss  # noqa: E402

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)
BLIND = ("token", "not spatial", "not guided", "masked")  # to the heatmaps
every = pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items()])
SEEING = [pytest.param(c, id=name) for name, c in CASES.items() if name not in BLIND]


# --- what all losses have in common -----------------------------------------------


@every
@given(seed=seeds)
@few
def test_it_is_the_plain_loss_where_all_weights_are_1(case, seed):
    given_ = inputs(case, seed)
    if case.type.startswith("Adaptive"):
        given_["heatmaps"] = torch.full((3, JOINTS, 8, 9), 0.6)  # equal peaks
    loss = case.build(**case.plain)(**given_)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain_loss(given_).item(), rel=1e-5)


@every
@given(seed=seeds, scale=st.floats(0, 1e4))
@few
def test_it_is_never_negative(case, seed, scale):
    given_ = inputs(case, seed)
    given_["heatmaps"] = (given_["heatmaps"] - 0.4) * scale
    given_["student"] = given_["teacher"] + scale * 1e-6 * given_["student"]
    assert case.build()(**given_).item() >= 0


@every
@given(seed=seeds)
@few
def test_teacher_and_heatmaps_get_no_gradient(case, seed):
    given_ = inputs(case, seed)
    case.build()(**given_).backward()
    assert given_["teacher"].grad is None
    assert given_["heatmaps"].grad is None
    assert given_["student"].grad.abs().sum() > 0


@every
@given(seed=seeds)
@few
def test_a_teacher_that_is_not_detached_moves_towards_the_student(case, seed):
    given_ = inputs(case, seed)
    torch.manual_seed(0)  # what a mask leaves out
    detached = case.build()(**given_).item()
    torch.manual_seed(0)
    loss = case.build(detach_teacher=False)(**given_)
    assert loss.item() == detached
    loss.backward()
    torch.testing.assert_close(given_["teacher"].grad, -given_["student"].grad)
    assert given_["student"].grad.abs().sum() > 0
    assert given_["heatmaps"].grad is None


@every
@given(seed=seeds, order=st.permutations(range(4)))
@few
def test_the_order_of_the_batch_does_not_matter(case, seed, order):
    given_ = inputs(case, seed, n=4)
    if not case.position_free:
        given_ = alike_tokens(given_)
    moved = {k: v[order] if torch.is_tensor(v) else v for k, v in given_.items()}
    loss = case.build()
    assert loss(**moved).item() == pytest.approx(loss(**given_).item(), rel=1e-5)


@every
@given(seed=seeds, times=st.integers(2, 4))
@few
def test_repeating_the_batch_does_not_matter(case, seed, times):
    given_ = inputs(case, seed)
    if not case.position_free:
        given_ = alike_tokens(given_)
    again = {k: torch.cat([v] * times) if torch.is_tensor(v) else v for k, v in given_.items()}
    loss = case.build()
    assert loss(**again).item() == pytest.approx(loss(**given_).item(), rel=1e-5)


def alike_tokens(given_):
    """Make the tokens of a sample equal, so that it does not matter which are drawn."""
    student = given_["student"][:, :1].expand_as(given_["student"])
    teacher = given_["teacher"][:, :1].expand_as(given_["teacher"])
    return {**given_, "student": student, "teacher": teacher}


@every
@given(gh=st.integers(1, 6), gw=st.integers(1, 6), d=st.integers(1, 9), n=st.integers(1, 3))
@few
def test_the_scale_is_the_same_for_every_number_of_tokens_and_channels(case, gh, gw, d, n):
    """The same heatmap everywhere, a difference of 2 everywhere: one value at every size."""

    def value(n, grid, d):
        given_ = inputs(case, n=n, grid=grid, d=d)
        given_["student"] = given_["teacher"] + 2
        given_["heatmaps"] = torch.full_like(given_["heatmaps"], 0.3)
        return case.build()(**given_).item()

    reference = value(1, (3, 4), 3)
    assert value(n, (gh, gw), d) == pytest.approx(reference, rel=1e-5)
    assert 0.3 < reference / (WEIGHT * 4) < 3


@every
@given(seed=seeds, sample=st.integers(0, 2), token=st.integers(0, 4))
@few
@pytest.mark.parametrize("where", ["student", "teacher"])
def test_nan_in_any_token_comes_out(case, where, seed, sample, token):
    given_ = inputs(case, seed)
    given_["visible"][sample, token] = 0
    given_[where] = given_[where].detach().clone()
    given_[where][sample, token, 1] = math.nan
    assert math.isnan(case.build()(**given_).item())


@pytest.mark.parametrize("case", SEEING)
@given(seed=seeds, sample=st.integers(0, 2), joint=st.integers(0, 4))
@few
def test_nan_in_any_heatmap_comes_out(case, seed, sample, joint):
    given_ = inputs(case, seed)
    given_["visible"][sample, joint] = 0
    given_["heatmaps"] = given_["heatmaps"].detach().clone()
    given_["heatmaps"][sample, joint, 3, 3] = math.nan
    assert math.isnan(case.build()(**given_).item())


@every
def test_a_loss_of_zero_keeps_its_graph(case):
    given_ = inputs(case)
    given_["teacher"] = given_["student"].detach().clone()
    loss = case.build()
    value = loss(**given_)
    value.backward()
    assert value.item() == 0
    assert given_["student"].grad.eq(0).all()
    assert all(p.grad is not None for p in loss.parameters())


@every
@given(seed=seeds, factor=st.floats(0, 1e3))
@few
def test_it_is_linear_in_the_loss_weight(case, seed, factor):
    given_ = inputs(case, seed)
    values = []
    for weight in (1.0, factor):
        torch.manual_seed(0)
        values.append(case.build(weight)(**given_).item())
    assert values[1] == pytest.approx(factor * values[0], rel=1e-5)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite_where_squares_do_not_fit_it(case, dtype):
    given_ = inputs(case)
    given_["student"] = torch.full_like(given_["student"], 3e4).to(dtype).requires_grad_()
    given_["teacher"] = (-given_["student"]).detach()
    given_["heatmaps"] = given_["heatmaps"].detach().to(dtype) * 1000
    given_["visible"] = given_["visible"].to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = case.build(1e-9)(**given_)
    value.backward()
    assert value.dtype == torch.float32
    assert 0 < value.item() < math.inf
    assert given_["student"].grad.isfinite().all()


@every
def test_autocast_does_not_round_it(case):
    given_ = inputs(case)
    torch.manual_seed(0)
    expected = case.build()(**given_).item()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert case.build()(**given_).item() == expected


@every
def test_compiled_it_gives_the_same(case):
    torch._dynamo.reset()
    given_ = inputs(case)
    loss = case.build()
    compiled = torch.compile(loss, backend="aot_eager")
    torch.manual_seed(0)
    loss(**given_).backward()
    expected = given_["student"].grad.clone()
    given_["student"].grad = None
    torch.manual_seed(0)
    compiled(**given_).backward()
    torch.testing.assert_close(given_["student"].grad, expected)


@every
def test_tokens_of_two_shapes_are_refused(case):
    given_ = inputs(case)
    for wrong in (given_["teacher"][:2], given_["teacher"][:, 1:], given_["teacher"][..., 1:]):
        with pytest.raises(ValueError, match=r"expected student and teacher.*\(3, ., 4\) and"):
            case.build()(**{**given_, "teacher": wrong})
    flat = given_["student"][:, 0]
    with pytest.raises(ValueError, match="expected student and teacher"):
        case.build()(**{**given_, "student": flat, "teacher": flat})
    with pytest.raises(ValueError, match="none of them 0"):
        case.build()(given_["student"][:0], given_["teacher"][:0])


@pytest.mark.parametrize("case", SEEING)
def test_missing_and_misshapen_heatmaps_are_refused(case):
    given_ = inputs(case)
    with pytest.raises(ValueError, match=r"heatmaps: expected .*got None"):
        case.build()(**{**given_, "heatmaps": None})
    for wrong in (given_["heatmaps"][:2], given_["heatmaps"][0]):
        with pytest.raises(ValueError, match=r"heatmaps: expected \(3, J, H, W\), got \("):
            case.build()(**{**given_, "heatmaps": wrong})


@pytest.mark.parametrize("case", [p for p in SEEING if p.values[0].visual])
@pytest.mark.parametrize("grid", [(2, 2), (6,), (3, 3), (2, 3, 1)])
def test_a_grid_of_another_number_of_tokens_is_refused(case, grid):
    with pytest.raises(ValueError, match=r"grid: expected .*= 6, got "):
        case.build()(**{**inputs(case), "grid": grid})


@pytest.mark.parametrize("type_", ["ForegroundTokenDistilLoss", "DynamicForegroundDistilLoss"])
def test_a_missing_grid_is_refused(type_):
    case = Case(type_, visual=True)
    with pytest.raises(ValueError, match=r"grid: expected .*got None"):
        case.build()(**{**inputs(case), "grid": None})


@pytest.mark.parametrize("case", [p for p in SEEING if not p.values[0].visual])
def test_joints_that_do_not_fit_are_refused(case):
    given_ = inputs(case)
    with pytest.raises(ValueError, match=r"expected one for each of 5 keypoint tokens, got 4"):
        case.build()(**{**given_, "heatmaps": given_["heatmaps"][:, 1:]})
    with pytest.raises(ValueError, match=r"visible: expected \(3, 5\).*got \(3, 4\)"):
        case.build()(**{**given_, "visible": given_["visible"][:, 1:]})


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("type_", "option", "values"),
    [
        *[(case.type, "loss_weight", (-1e-6, NAN, INF)) for case in CASES.values()],
        ("TokenDistilLoss", "dist_type", ("L1", "l2", None)),
        ("ForegroundTokenDistilLoss", "foreground_weight", (-1, NAN, INF)),
        ("ForegroundTokenDistilLoss", "background_weight", (-0.1, NAN, INF)),
        ("ForegroundTokenDistilLoss", "threshold", (0, -0.1, NAN, INF)),
        ("ForegroundTokenDistilLoss", "temperature", (0, -1, NAN, INF)),
        ("DynamicForegroundDistilLoss", "start_epoch", (-1, NAN, INF)),
        ("DynamicForegroundDistilLoss", "end_epoch", (49, NAN, INF)),
        ("DynamicForegroundDistilLoss", "max_fg_weight", (-1, NAN, INF)),
        ("DynamicForegroundDistilLoss", "min_bg_weight", (-1, NAN, INF)),
        ("DynamicForegroundDistilLoss", "temperature", (0, NAN)),
        ("DynamicForegroundDistilLoss", "threshold", (0, NAN)),
        ("AdaptiveForegroundDistilLoss", "num_keypoints", (0, -1, 17.0)),
        ("AdaptiveForegroundDistilLoss", "balance", (-1, NAN, INF)),
        ("MaskedTokenDistilLoss", "mask_ratio", (-0.1, 1, 1.5, NAN)),
        ("MaskedTokenDistilLoss", "mask_strategy", ("Random", "", None)),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(type_, option, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{option}: expected"):
            MODELS.build({"type": type_, option: value})


def test_the_guides_configs_build_as_they_stand():
    configs = [
        dict(type="TokenDistilLoss"),
        dict(type="ForegroundTokenDistilLoss", foreground_weight=2.0),
        dict(
            type="ForegroundTokenDistilLoss",
            loss_weight=8e-6,
            foreground_weight=3.0,
            background_weight=0.3,
            threshold=0.08,
            temperature=0.8,
            use_spatial_weight=True,
        ),
        dict(type="AdaptiveForegroundDistilLoss", num_keypoints=17, use_keypoint_guidance=True),
        dict(
            type="DynamicForegroundDistilLoss",
            start_epoch=50,
            end_epoch=150,
            max_fg_weight=3.0,
            min_bg_weight=0.3,
        ),
        dict(
            type="MaskedTokenDistilLoss", loss_weight=1e-5, mask_ratio=0.3, mask_strategy="random"
        ),
    ]
    with scope("mmpose"):
        weights = [MODELS.build(config).loss_weight for config in configs]
    assert weights == [5e-6, 5e-6, 8e-6, 5e-6, 5e-6, 1e-5]
