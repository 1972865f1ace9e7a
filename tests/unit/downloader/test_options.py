"""Nothing that a user can write reaches yt-dlp but through the allow-list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from yt_dlp import YoutubeDL

from media_downloader.downloader import options
from media_downloader.downloader.protocol import Spec, Task
from media_downloader.jobs.options import JobOptions, Preset
from media_downloader.settings import Settings

#: Parameters of yt-dlp that run commands, read or write elsewhere, or load code: set by us to nothing, or never set.
DANGEROUS = {
    "exec_cmd", "external_downloader", "external_downloader_args", "postprocessor_args", "cookiefile",
    "cookiesfrombrowser", "ffmpeg_location", "paths", "outtmpl", "cachedir", "download_archive", "load_info_filename",
    "enable_file_urls", "forceprint", "print_to_file", "proxy", "plugin_dirs", "netrc_cmd", "usenetrc",
    "netrc_location", "config_location", "remote_components", "js_runtimes", "compat_opts", "client_certificate",
}  # fmt: skip


def a_spec(**given_options: object) -> Spec:
    return Spec(task=Task.DOWNLOAD, options=JobOptions.model_validate(given_options))


#: Control characters and halves of characters are refused before they get here.
words = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
job_options = st.builds(
    JobOptions,
    preset=st.sampled_from(list(Preset)),
    format=st.none() | words,
    subtitles=st.lists(st.from_regex(r"\A[a-z]{2}\Z"), max_size=3).map(tuple),
    output_template=st.none() | words,
    folder=st.none() | words,
    playlist=st.none() | st.booleans(),
)


@given(job_options)
def test_no_option_changes_a_dangerous_parameter(chosen: JobOptions) -> None:
    usual = options.parameters(a_spec())
    found = options.parameters(Spec(task=Task.DOWNLOAD, options=chosen))
    assert {name: found.get(name) for name in DANGEROUS} == {name: usual.get(name) for name in DANGEROUS}
    assert set(found) - {"writesubtitles", "writeautomaticsub", "subtitleslangs"} == set(usual)
    assert {one["key"] for one in found["postprocessors"]} <= {"FFmpegExtractAudio"}


@pytest.mark.parametrize(
    "given_options",
    [
        {"exec": "rm -rf /"},
        {"postprocessors": []},
        {"cookiefile": "/etc/passwd"},
        {"preset": "nothing"},
        {"format": ""},
        {"format": "x" * 501},
        {"subtitles": ["../x"]},
        {"subtitles": ["en"] * 21},
        {"max_size_bytes": 0},
        {"playlist_limit": 10_001},
        {"outtmpl": "x"},
    ],
)
def test_unknown_and_malformed_options_are_refused(given_options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobOptions.model_validate(given_options)


@pytest.mark.parametrize("preset", list(Preset))
def test_yt_dlp_understands_every_preset(preset: Preset) -> None:
    with YoutubeDL({"quiet": True, "cachedir": False}) as ydl:
        assert ydl.build_format_selector(options.format_of(JobOptions(preset=preset)))


def test_everything_that_makes_a_kill_harmless_is_set() -> None:
    found = options.parameters(a_spec())
    assert found["continuedl"]
    assert found["keep_fragments"]
    assert not found["skip_unavailable_fragments"]
    assert (found["buffersize"], found["noresizebuffer"]) == (65536, True)
    assert found["fixup"] == "force"
    assert not found["nopart"]
    assert options.parameters(a_spec(), pinned_format="1+2")["format"] == "1+2"


def test_yt_dlp_pauses_between_tries_as_it_calls_the_function() -> None:
    pause = options.parameters(a_spec())["retry_sleep_functions"]["http"]
    assert [pause(n=count) for count in (0, 1, 2, 10)] == [0.25, 0.5, 1.0, 4.0]
    soon = options.parameters(Spec(task=Task.DOWNLOAD, request_pause_seconds=0.01))["retry_sleep_functions"]["fragment"]
    assert [soon(n=count) for count in (0, 1, 4, 10)] == [0.01, 0.02, 0.16, 0.16]
    assert Settings().request_pause_seconds == Spec(task=Task.DOWNLOAD).request_pause_seconds
