"""Names that every filesystem takes and that say nothing to a shell, a terminal or a web page."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from media_downloader.errors import OptionRejected

#: Longest name of one file in bytes (NAME_MAX of the usual filesystems).
NAME_MAX_BYTES = 255
#: Kept free at a name's end: " (999)", a language and an extension (".zh-Hant.vtt").
SUFFIX_ROOM_BYTES = 40
#: Longest label between name and extension; what comes after it is cut.
LABEL_MAX_BYTES = 80
#: A folder below the downloads folder goes at most so deep.
MAX_FOLDER_DEPTH = 10

#: Looks like the character that Windows and the web cannot have in a name.
_LOOKALIKES = str.maketrans(
    {
        "/": "⧸",
        "\\": "⧹",
        ":": "：",
        "*": "＊",
        "?": "？",
        '"': "＂",
        "<": "＜",
        ">": "＞",
        "|": "｜",
    }
)
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
#: Control, format (bidirectional, zero width), surrogate, private and unassigned characters.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}


def safe_name(text: str, *, max_bytes: int = NAME_MAX_BYTES - SUFFIX_ROOM_BYTES) -> str:
    """Return a name of one path component, without an extension, for any text whatever.

    NFC; nothing unseen; no separator and nothing that Windows refuses; neither hidden nor option-like; not reserved;
    never empty; at most ``max_bytes`` in UTF-8, cut before a character, its combining marks included. Idempotent.
    """
    # A sign that is taken out can leave two characters that compose, so normalise last, and once more after a cut.
    seen = "".join(" " if char in "\t\n\r\v\f\u2028\u2029" else char for char in text)
    seen = "".join(char for char in seen if unicodedata.category(char) not in _UNSEEN)
    name = unicodedata.normalize("NFC", seen).translate(_LOOKALIKES)
    name = re.sub(r"\s+", " ", name)
    name = _trim(name)
    if _RESERVED.match(name):
        name = f"_{name}"
    name = _trim(_cut(name, max_bytes))
    return name or "media"


def _trim(name: str) -> str:
    return name.lstrip(" .-~").rstrip(" .")


def _cut(name: str, max_bytes: int) -> str:
    data = name.encode()
    if len(data) <= max_bytes:
        return name
    cut = data[:max_bytes].decode("utf-8", "ignore")
    # The first character that fell off may be a mark on the last one that stayed.
    while cut and unicodedata.combining(name[len(cut)]):
        cut = cut[:-1]
    return cut


def safe_extension(extension: str) -> str:
    """Return a short lower-case extension without its dot; "bin" when there is none to be had."""
    kept = re.sub(r"[^a-z0-9]", "", extension.lower())[:10]
    return kept or "bin"


def file_names(name: str, number: int, tails: Sequence[tuple[str | None, str]]) -> list[str]:
    """Return the names of files that belong together, one for each label and extension.

    They share what stands before the label, so that players find what goes with what; none is longer than a
    filesystem takes, and no two are the same, also where case or composition makes no difference.
    """
    endings: list[str] = []
    taken: set[str] = set()
    for label, extension in tails:
        plain = f".{safe_name(label, max_bytes=LABEL_MAX_BYTES)}" if label else ""
        ending = f"{plain}.{safe_extension(extension)}"
        again = 2
        while same_name(ending) in taken:
            ending = f"{plain}.{again}.{safe_extension(extension)}"
            again += 1
        taken.add(same_name(ending))
        endings.append(ending)
    nth = f" ({number})" if number > 1 else ""
    longest = max((len(f"{nth}{ending}".encode()) for ending in endings), default=0)
    stem = safe_name(name, max_bytes=min(NAME_MAX_BYTES - longest, NAME_MAX_BYTES - SUFFIX_ROOM_BYTES))
    return [f"{stem}{nth}{ending}" for ending in endings]


def same_name(name: str) -> str:
    """Return what is the same for names that some filesystem takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_folder(folder: str) -> PurePosixPath:
    """Return the folder that a user asked for. Raises ``OptionRejected``: it is told and not mended.

    Relative, below the downloads folder, no hidden part, no part that ``safe_name`` would change.
    """

    def refuse(why: str) -> OptionRejected:
        return OptionRejected(f"The folder {why}.", field="options.folder")

    if folder.startswith(("/", "~")) or "\\" in folder or re.match(r"^[A-Za-z]:", folder):
        raise refuse("must be a path below the downloads folder, with forward slashes")
    parts = [part for part in folder.split("/") if part not in {"", "."}]
    if not parts:
        raise refuse("has no name")
    if len(parts) > MAX_FOLDER_DEPTH:
        raise refuse(f"is more than {MAX_FOLDER_DEPTH} levels deep")
    for part in parts:
        if part == "..":
            raise refuse("must not lead upwards ('..')")
        if part.startswith((".", "mdjob_", "md_")):
            raise refuse("has a part that is hidden or reserved")
        if safe_name(part) != unicodedata.normalize("NFC", part):
            raise refuse("has a part with characters that not every system can have in a name, or that is too long")
    return PurePosixPath(*(unicodedata.normalize("NFC", part) for part in parts))


def check_template(template: str) -> None:
    """Refuse an output template that is more than a name. Whether yt-dlp understands it, yt-dlp says."""

    def refuse(why: str) -> OptionRejected:
        return OptionRejected(f"The output template {why}.", field="options.output_template")

    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in template):
        raise refuse("has control characters")
    outside = re.sub(r"%\([^)]*\)", "", template)
    if "/" in outside or "\\" in outside:
        raise refuse("must not have a path; use the folder option")
    if template.startswith(("~", "$", ".")) or re.search(r"\$\{?[A-Za-z_]", template):
        raise refuse("must not name variables, a home folder or a hidden file")
    if not outside.strip(" .") and "%(" not in template:
        raise refuse("gives no name")
