"""The real zygote, whose processes run ``tests.scripted_child`` in place of the downloader."""

from pathlib import Path

from media_downloader.downloader.process import Zygote
from tests.program import ROOT


class ScriptedZygote(Zygote):
    """Finds the tests' modules; everything else is as in production."""

    def __init__(self, private_dir: Path, child_module: str = "tests.scripted_child") -> None:
        super().__init__(private_dir, child_module)

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(ROOT)}
