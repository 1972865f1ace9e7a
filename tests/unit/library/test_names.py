"""Whatever a title says, its name is one that every filesystem takes and that stays in its folder."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_downloader.errors import OptionRejected
from media_downloader.library.names import check_template, file_names, safe_extension, safe_folder, safe_name

anything = st.text(alphabet=st.characters(exclude_categories=()), max_size=400)


@given(anything)
def test_any_title_gives_a_name_that_can_be_used(title: str) -> None:
    name = safe_name(title)
    assert 0 < len(name.encode()) <= 215
    assert "/" not in name
    assert "\\" not in name
    assert not name.startswith((".", "-", "~", " "))
    assert not name.endswith((" ", "."))
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} for char in name)
    assert unicodedata.is_normalized("NFC", name)
    assert safe_name(name) == name


@given(anything)
def test_a_file_of_any_name_can_be_made_and_is_in_its_folder(title: str) -> None:
    path = Path("/folder") / f"{safe_name(title)} (999).mp4"
    assert path.parent == Path("/folder")
    assert path.name == f"{safe_name(title)} (999).mp4"
    assert len(path.name.encode()) <= 255


@pytest.mark.parametrize(
    "title, name",
    [
        ("../../etc/passwd", "⧸..⧸etc⧸passwd"),
        ("..", "media"),
        ("", "media"),
        ("...hidden", "hidden"),
        ("-rf", "rf"),
        ("CON", "_CON"),
        ("con.mp4", "_con.mp4"),
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("a\u202eb", "ab"),
        ("a\nb\tc", "a b c"),
        ("e\u0301", "é"),
        ('What? "A/B": <1|2>*', "What？ ＂A⧸B＂： ＜1｜2＞＊"),
    ],
)
def test_known_names(title: str, name: str) -> None:
    assert safe_name(title) == name


def test_a_long_name_is_cut_in_bytes_and_not_in_a_character() -> None:
    assert len(safe_name("é" * 300).encode()) <= 215
    assert safe_name("x" * 214 + "e\u0301\u0323\u0330\u0331") in {"x" * 214, "x" * 214 + "e"}


@pytest.mark.parametrize(
    "folder",
    ["/abs", "../up", "a/../b", "~home", ".hidden", "a/.hidden", "C:x", "a\\b", "mdjob_x", "md_x", "a\x00b", ".", "",
     "a/" * 11 + "b", "x" * 300, "CON", "a:b"],
)  # fmt: skip
def test_a_bad_folder_is_refused(folder: str) -> None:
    with pytest.raises(OptionRejected):
        safe_folder(folder)


@given(anything)
def test_a_folder_is_refused_or_below(folder: str) -> None:
    try:
        found = safe_folder(folder)
    except OptionRejected:
        return
    assert not found.is_absolute()
    assert not {"..", "."} & set(found.parts)


@pytest.mark.parametrize(
    "template",
    ["a/b", "../%(title)s", "%(title)s/%(id)s", "$HOME", "${X}%(id)s", "~/x", ".x", "a\\b", "\x00", "a$HOME"],
)
def test_a_bad_template_is_refused(template: str) -> None:
    with pytest.raises(OptionRejected):
        check_template(template)


@pytest.mark.parametrize("template", ["%(title)s", "%(title)s [%(id)s]", "%(upload_date>%Y-%m-%d)s %(title).50s"])
def test_a_good_template_is_taken(template: str) -> None:
    check_template(template)


@given(
    anything,
    st.integers(min_value=1, max_value=99_999),
    st.lists(st.tuples(st.none() | anything, anything), min_size=1, max_size=8),
)
def test_the_names_of_one_job_fit_every_filesystem_and_are_different(
    title: str, number: int, tails: list[tuple[str | None, str]]
) -> None:
    names = file_names(title, number, tails)
    assert len(names) == len(tails)
    assert all(len(name.encode()) <= 255 for name in names)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)
    for name, (_, extension) in zip(names, tails, strict=True):
        assert "/" not in name
        assert not name.startswith(".")
        assert name.endswith(f".{safe_extension(extension)}")
        assert unicodedata.is_normalized("NFC", name)
        assert (f" ({number})" in name) or number == 1


def test_a_long_title_with_a_long_label_is_cut_once_for_all_of_its_files() -> None:
    media, text = file_names("é" * 300, 12, [(None, "mp4"), ("label " * 60, "vtt")])
    assert len(text.encode()) <= 255
    stem = media.removesuffix(" (12).mp4")
    assert text.startswith(f"{stem} (12).label")
    assert len(stem) > 60


@given(anything)
def test_any_extension_is_short_and_plain(extension: str) -> None:
    assert safe_extension(extension).isalnum()
    assert len(safe_extension(extension)) <= 10
