"""The official files that ``models.fetch`` knows: OpenMMLab's, by the names a person types.

Checkpoints: addresses as in the metafiles that mmpose 1.3.2 and mmaction2 1.1.0 ship
(``.mim/configs/body_2d_keypoint/rtmo/body7/rtmo_body7.yml``, ``.mim/configs/skeleton/stgcnpp/
metafile.yml``); their names hold the first eight hex digits of their SHA-256. ONNX archives:
addresses as in the READMEs of mmpose's RTMO and RTMPose, and as in rtmlib 0.0.16's presets; the
digits in their names are those of the checkpoint that they were made from, and no digest of the
archives themselves is published.
Both projects and their weights are under the Apache License 2.0.
"""

import difflib
import re
from dataclasses import dataclass, replace

HOST = "https://download.openmmlab.com"
_DIGITS = re.compile(r"[-_]([0-9a-f]{8})(?:_\d{8})?\.pth")


@dataclass(frozen=True, slots=True)
class OfficialFile:
    """A file that can be fetched.

    Attributes:
        name: as typed.
        path: below the host.
        about: what it is.
        member: of an archive, the base name of the member to extract.
        size_mb: approximate size, megabytes; None: not known.
        licence: its SPDX name.

    """

    name: str
    path: str
    about: str
    member: str | None = None
    size_mb: int | None = None
    licence: str = "Apache-2.0"

    @property
    def file_name(self) -> str:
        """The name it is kept under: the official one; rtmo-s.onnx for rtmo-s-onnx."""
        if self.member is None:
            return self.path.rpartition("/")[2]
        return f"{self.name.removesuffix('-onnx')}.onnx"

    @property
    def former_name(self) -> str:
        """The name that earlier versions kept it under: rtmo-s-onnx.onnx for rtmo-s-onnx."""
        return self.file_name if self.member is None else f"{self.name}.onnx"

    @property
    def sha256_start(self) -> str | None:
        """The first digits of its SHA-256, from its name; None for an archive."""
        match = _DIGITS.search(self.path)
        return match[1] if match else None


_RTMO = (
    ("t", "rtmo-t_8xb32-600e_body7-416x416-f48f75cb_20231219", "416x416, AP 0.574", None),
    ("s", "rtmo-s_8xb32-600e_body7-640x640-dac2bf74_20231211", "640x640, AP 0.686", 40),
    ("m", "rtmo-m_16xb16-600e_body7-640x640-39e78cc4_20231211", "640x640, AP 0.726", None),
    ("l", "rtmo-l_16xb16-600e_body7-640x640-b37118ce_20231211", "640x640, AP 0.748", 179),
)
# RTMPose of COCO's 17 keypoints (body7) and the person detectors that go with it.
_RTMPOSE = (
    ("t", "420e-256x192-026a1439_20230504", "256x192"),
    ("s", "420e-256x192-acd4a1ef_20230504", "256x192"),
    ("m", "420e-256x192-e48f03d0_20230504", "256x192"),
    ("l", "420e-256x192-4dba18fc_20230504", "256x192"),
    ("x", "700e-384x288-71d7b7e9_20230629", "384x288"),
)
_DETECTORS = (
    ("rtmdet-nano", "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e", "RTMDet-nano, 320x320"),
    ("yolox-tiny", "yolox_tiny_8xb8-300e_humanart-6f3252f9", "YOLOX-tiny, 416x416"),
    ("yolox-m", "yolox_m_8xb8-300e_humanart-c2c7a14a", "YOLOX-m, 640x640"),
    ("yolox-x", "yolox_x_8xb8-300e_humanart-a39d44ed", "YOLOX-x, 640x640"),
)
# Detector and pose network, as rtmlib's modes of the same names; configs/presets/ runs them.
PRESETS = {
    "lightweight": ("yolox-tiny-person-onnx", "rtmpose-s-onnx"),
    "balanced": ("yolox-m-person-onnx", "rtmpose-m-onnx"),
    "performance": ("yolox-x-person-onnx", "rtmpose-x-onnx"),
}
_STGCNPP = (
    ("joint", "joints", "20221228-86e1e77a"),
    ("bone", "bones", "20221228-cd11a691"),
    ("joint-motion", "motion of joints", "20221228-19a34aba"),
    ("bone-motion", "motion of bones", "20221228-c02a0749"),
)


def _rtmo() -> list[OfficialFile]:
    folder = "/mmpose/v1/projects/rtmo"
    weights = [
        OfficialFile(f"rtmo-{size}", f"{folder}/{stem}.pth", f"RTMO, {about}", size_mb=megabytes)
        for size, stem, about, megabytes in _RTMO
    ]
    networks = [
        OfficialFile(
            f"rtmo-{size}-onnx",
            f"{folder}/onnx_sdk/{stem}.zip",
            f"the same as ONNX, made by mmdeploy: RTMO, {about}",
            "end2end.onnx",
        )
        for size, stem, about, _ in _RTMO
    ]
    return weights + networks


def _rtmpose() -> list[OfficialFile]:
    folder = "/mmpose/v1/projects/rtmposev1/onnx_sdk"
    networks = [
        OfficialFile(
            f"rtmpose-{size}-onnx",
            f"{folder}/rtmpose-{size}_simcc-body7_pt-body7_{rest}.zip",
            f"ONNX, made by mmdeploy: RTMPose, {shape} (height, width), for topdown",
            "end2end.onnx",
        )
        for size, rest, shape in _RTMPOSE
    ]
    detectors = [
        OfficialFile(
            f"{name}-person-onnx",
            f"{folder}/{stem}.zip",
            f"ONNX, made by mmdeploy: person detector, {about}",
            "end2end.onnx",
        )
        for name, stem, about in _DETECTORS
    ]
    return networks + detectors


def _stgcnpp() -> list[OfficialFile]:
    files = []
    for stream, of, suffix in _STGCNPP:
        stem = f"stgcnpp_8xb16-{stream}-u100-80e_ntu60-xsub-keypoint-2d"
        path = f"/mmaction/v1.0/skeleton/stgcnpp/{stem}/{stem}_{suffix}.pth"
        about = f"ST-GCN++ on {of}, 60 actions of NTU RGB+D, 17 keypoints"
        files.append(OfficialFile(f"stgcnpp-ntu60-{stream}", path, about))
    return files


FILES: dict[str, OfficialFile] = {file.name: file for file in (*_rtmo(), *_rtmpose(), *_stgcnpp())}
# Common names of the ONNX files: kept as end2end_l.onnx, which its configs look for.
ALIASES = {
    f"end2end_{size}": replace(FILES[f"rtmo-{size}-onnx"], name=f"end2end_{size}")
    for size, *_ in _RTMO
}


def named(name: str) -> OfficialFile:
    """Return the file of that name, typed or kept; raise KeyError with the nearest otherwise."""
    known = {**FILES, **ALIASES}
    kept = [file for file in known.values() if file.file_name == name]
    if kept:
        return kept[0]
    if name.removesuffix(".onnx") in known:
        return known[name.removesuffix(".onnx")]
    near = difflib.get_close_matches(name, [*known, *PRESETS], n=3, cutoff=0.5)
    raise KeyError(f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FILES)}")


def table() -> str:
    """Return the list of files for a person: names, sizes, licences, and what they are."""
    lines = [f"{'name':26}{'size':>10}  {'licence':12}what"]
    for file in FILES.values():
        size = f"{file.size_mb} MB" if file.size_mb else "not known"
        lines.append(f"{file.name:26}{size:>10}  {file.licence:12}{file.about}")
    lines.append(
        f"Also known: {', '.join(ALIASES)}: the ONNX files under the names of guides and configs."
    )
    pairs = ", ".join(f"{name} ({' + '.join(files)})" for name, files in PRESETS.items())
    lines.append(f"Pairs of detector and pose network: {pairs}.")
    lines.append(
        "The licence is that of the weights; the data they were trained on has terms of its own "
        "(NTU RGB+D: research only)."
    )
    return "\n".join(lines) + "\n"
