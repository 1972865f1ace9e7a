"""The download process itself: what runs after the zygote's fork, from the spec to the last word."""

import signal
import socket
import traceback
from pathlib import Path

from yt_dlp import YoutubeDL
from yt_dlp.extractor import gen_extractor_classes, get_info_extractor

from media_downloader.downloader import containers, egress, landlock, seams
from media_downloader.downloader.download_task import DownloadTask
from media_downloader.downloader.probe_task import check, probe
from media_downloader.downloader.problems import describe
from media_downloader.downloader.process_tree import adopt_subprocesses
from media_downloader.downloader.protocol import Logged, Message, Spec, StateChanged, Task
from media_downloader.downloader.resume import Folders
from media_downloader.downloader.voice import MAX_LOG_CHARS, Voice
from media_downloader.jobs.state import State
from media_downloader.netguard import EgressProxy, Policy, install_socket_guard, redact_line


def warm() -> None:
    """Do once what every forked process would have to do again."""
    seams.guard_fragments()
    egress.confine_request_handlers()
    containers.guard_local_files()
    get_info_extractor("Generic")
    # Each extractor compiles its pattern when it is first asked: 0.6 s for all (measured), once and not per job.
    for extractor in gen_extractor_classes():
        extractor.suitable("https://nothing.invalid/")
    with YoutubeDL({"quiet": True, "cachedir": False}) as ydl:
        ydl.build_format_selector("bestvideo*+bestaudio/best")


def main(spec: Spec, connection: socket.socket) -> int:
    """Serve one job; return the exit status. The last word is ``Finished``, ``Probed`` or ``Failed``."""
    # Python's own meaning of an interrupt: it ends a live recording in order. Nobody else sends one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folders = Folders(Path(spec.workdir)) if spec.workdir else None
    voice = Voice(connection, *((folders.work, folders.keep) if folders else (None, None)))
    voice.start()
    if spec.task is Task.CHECK:
        return _serve(spec, voice)
    policy = Policy.from_dict(spec.policy)
    install_socket_guard(policy)
    with EgressProxy(policy) as proxy:
        egress.route_libcurl(proxy)
        ruleset = landlock.only_tcp_port(proxy.port) if landlock.is_available() else None
        if ruleset is None and not spec.unconfined_ffmpeg:
            egress.keep_ffmpeg_off_the_network()
        adopt_subprocesses(proxy.environment() | ({"DENO_DIR": spec.deno_dir} if spec.deno_dir else {}), ruleset)
        return _serve(spec, voice, proxy)


def _serve(spec: Spec, voice: Voice, proxy: EgressProxy | None = None) -> int:
    try:
        voice.say(_answer(spec, voice))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001 - the verdict: whatever went wrong is told as a failure
        for line in traceback.format_exception(error)[-3:]:
            voice.say(Logged(level="debug", text=redact_line(line, MAX_LOG_CHARS)))
        failure = describe(error)
        if proxy is not None and proxy.blocked:
            # ffmpeg only says that it failed; the proxy knows that it was refused an address.
            failure = describe(_blocked(proxy.blocked[-1]))
        voice.say(failure)
    return 0


def _answer(spec: Spec, voice: Voice) -> Message:
    match spec.task:
        case Task.CHECK:
            return check(spec)
        case Task.PROBE:
            return probe(spec, voice)
        case Task.DOWNLOAD:
            voice.say(StateChanged(state=State.EXTRACTING))
            return DownloadTask(spec, voice).run()


def _blocked(target: str) -> Exception:
    from media_downloader.netguard import BLOCKED_MARKER

    return PermissionError(f"{BLOCKED_MARKER}: {target}")
