"""The official files that ``models.fetch`` knows: OpenMMLab's, by the names a person types.

Checkpoints: addresses as in the metafiles that mmpose 1.3.2 and mmaction2 1.1.0 ship
(``.mim/configs/body_2d_keypoint/rtmo/body7/rtmo_body7.yml``, ``.mim/configs/skeleton/stgcnpp/
metafile.yml``); their names hold the first eight hex digits of their SHA-256. ONNX archives:
addresses as in the README of mmpose's RTMO; the digits in their names are those of the
checkpoint that they were made from, and no digest of the archives themselves is published.
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


def _stgcnpp() -> list[OfficialFile]:
    files = []
    for stream, of, suffix in _STGCNPP:
        stem = f"stgcnpp_8xb16-{stream}-u100-80e_ntu60-xsub-keypoint-2d"
        path = f"/mmaction/v1.0/skeleton/stgcnpp/{stem}/{stem}_{suffix}.pth"
        about = f"ST-GCN++ on {of}, 60 actions of NTU RGB+D, 17 keypoints"
        files.append(OfficialFile(f"stgcnpp-ntu60-{stream}", path, about))
    return files


FILES: dict[str, OfficialFile] = {file.name: file for file in (*_rtmo(), *_stgcnpp())}
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
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
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
    lines.append(
        "The licence is that of the weights; the data they were trained on has terms of its own "
        "(NTU RGB+D: research only)."
    )
    return "\n".join(lines) + "\n"
