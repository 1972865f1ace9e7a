"""What a user may ask of a download: typed, strict, and the same in the API, the CLI and the store."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints


class Preset(StrEnum):
    """A named choice of format."""

    BEST = "best"
    P1080 = "1080p"
    P720 = "720p"
    P480 = "480p"
    AUDIO = "audio"
    AUDIO_MP3 = "audio-mp3"
    AUDIO_M4A = "audio-m4a"


#: No control characters: what is told in a log or on a terminal must not drive it.
PRINTED = r"^[^\x00-\x1f\x7f-\x9f]*$"
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.*_-]{0,34}$")]


def _a_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("this must be a number")
    return value


#: Refuses what could be read as a number and is none in JSON: "5" and true. (5.0 is an integer there.)
#: It stands behind the limits: the schema would lose them otherwise.
Number = BeforeValidator(_a_number)


class JobOptions(BaseModel):
    """Options of one job. Everything has a default; a field that is not known is refused."""

    # Only what is listed here can reach yt-dlp, and ``downloader/options.py`` says how: nothing in it runs a
    # command, reads a local file, writes outside the work folder or loads a plugin.

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    preset: Preset = Field(default=Preset.BEST, description="A named choice of format.")
    format: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=PRINTED)] | None = Field(
        default=None, description="A yt-dlp format expression; wins over the preset's."
    )
    subtitles: tuple[LanguageTag, ...] = Field(
        default=(),
        max_length=20,
        description='Languages of subtitles to fetch beside the media ("en", "de", "en.*"), without automatic ones.',
    )
    output_template: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="yt-dlp output template for the name of the published file, without a folder.",
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Folder below the downloads folder, with forward slashes.",
    )
    max_size_bytes: Annotated[int, Field(ge=1, le=2**50), Number] | None = Field(
        default=None, description="A file larger than this is refused, whatever the server announced."
    )
    playlist: StrictBool | None = Field(
        default=None, description="Take the playlist that the link is in rather than the one entry that it names."
    )
    playlist_limit: Annotated[int, Field(ge=1, le=10_000), Number] | None = Field(
        default=None, description="Most entries taken from a playlist."
    )
    checksum: StrictBool = Field(default=False, description="Compute the SHA-256 of each published file.")
