"""A publish, and how it is cut off at any of its steps."""

from pathlib import Path, PurePosixPath

from media_downloader.library.publishing import Publisher, PublishPlan, SourceFile

FILES = (SourceFile("work/media.mp4", "mp4"), SourceFile("work/media.en.vtt", "vtt", "en"))


class Cut(Exception):
    """The power went."""


def a_workdir(root: Path, name: str = "mdjob_a", content: str = "video") -> Path:
    workdir = root / name
    (workdir / "work").mkdir(parents=True)
    (workdir / "work" / "media.mp4").write_text(content)
    (workdir / "work" / "media.en.vtt").write_text(f"{content} text")
    return workdir


def plan(folder: str = "") -> PublishPlan:
    return PublishPlan(FILES, "A/Title", PurePosixPath(folder))


def everything(root: Path) -> set[str]:
    """Return every file of the downloads folder, hidden ones included, but for work folders."""
    files = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return {str(path) for path in files if not path.parts[0].startswith("mdjob_")}


NAMES = ["films/A⧸Title.mp4", "films/A⧸Title.en.vtt"]


def cut_off(root: Path, workdir: Path, at: int) -> str | None:
    """Publish until step number ``at``; return that step's name, None when there are not so many."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == at:
            raise Cut

    try:
        Publisher(root, workdir, step).publish(plan("films"))
    except Cut:
        return steps[-1]
    return None
