"""Which containers ffmpeg may take a downloaded file for: those that hold their media, none that names other files."""

import errno
import re
from typing import Any

from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor, FFmpegPostProcessorError

#: What ffmpeg says, in the system's words, when it cannot write.
FULL_DISK = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)

#: Demuxers by ffmpeg's names. ffmpeg looks at what is in a file, not at its name: a "video.mp4" in which a manifest of
#: DASH or a list for ``concat`` stands would bring other people's files of this machine into the result.
CONTAINERS = ",".join(
    (
        "mov,matroska,webm,mpegts,mpegtsraw,mpeg,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,vc1test,dirac,evc",
        "flv,live_flv,kux,avi,asf,asf_o,rm,ivr,ogg,mxf,gxf,nut,nuv,dv,wtv,nsv,swf,mjpeg,mpjpeg,smjpeg,yuv4mpegpipe,bink,roq",
        "mp3,aac,loas,ac3,ac4,eac3,dts,dtshd,truehd,mlp,flac,wav,w64,aiff,au,caf,amr,amrnb,amrwb,ape,tta,wv,mpc,mpc8,tak,shn",
        "oma,aax,aa,voc,gsm,dsf,iff,sbc,qcp,xwma,lrc,spdif,wsd,qoa,osq,sox,libopenmpt,libgme",
        "srt,webvtt,ass,sami,subviewer,subviewer1,microdvd,mpl2,mpsub,jacosub,realtext,stl,vplayer,scc,sup,pjs,aqtitle,mcc",
        "image2,gif,apng,ico,webp_anim,webp_pipe,png_pipe,jpeg_pipe,bmp_pipe,tiff_pipe,gif_pipe,jpegxl_pipe,ffmetadata",
    )
)


def whitelist(more: str = "") -> list[str]:
    """Return ffmpeg's options, to stand before an input."""
    return ["-format_whitelist", CONTAINERS + more]


def guard_local_files() -> None:
    """Have every postprocessor of yt-dlp take its inputs for containers alone."""
    original = FFmpegPostProcessor.real_run_ffmpeg

    def guarded(self: Any, input_path_opts: Any, output_path_opts: Any, **more: Any) -> Any:
        # yt-dlp cuts with a list for ``concat`` of its own making; lists inside of that one stay in their folder.
        inputs = [(path, [*opts, *whitelist(",concat" if "concat" in opts else "")]) for path, opts in input_path_opts]
        said: list[str] = []
        # Of all that ffmpeg said, its error keeps the last line, which is seldom the one that tells of the disk.
        self.write_debug = lambda text, *_, **__: said.append(str(text))
        try:
            return original(self, inputs, output_path_opts, **more)
        except FFmpegPostProcessorError as error:
            if FULL_DISK.search("\n".join(said[1:])):
                raise OSError(errno.ENOSPC, "No space left on device") from error
            raise
        finally:
            del self.write_debug

    FFmpegPostProcessor.real_run_ffmpeg = guarded
