# The image of servers and workers, for amd64 and arm64: everything in it exists as a Debian package or as a wheel for
# both, and nothing is compiled here.
#
#   docker build --tag media-downloader:local .
#
# A package index of your own goes in as a secret, which no layer keeps: --secret id=pip,src=pip.conf

FROM python:3.13-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/venv
COPY requirements.lock deploy/s3.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/venv/bin/python -m pip install --require-hashes --only-binary=:all: \
    --requirement requirements.lock --requirement s3.lock
COPY pyproject.toml README.md ./
COPY src ./src
# What the build needed, and a second ffmpeg of 165 MB beside Debian's, which has ffprobe too, stay behind.
RUN /opt/venv/bin/python -m pip install --no-deps --no-build-isolation --no-index . \
    && /opt/venv/bin/python -m pip uninstall --yes hatchling editables imageio-ffmpeg


FROM python:3.13-slim-bookworm AS runtime

LABEL org.opencontainers.image.title="Media Downloader" \
      org.opencontainers.image.description="A self-hosted server that downloads media from any site yt-dlp knows"

# Debian removes a package's old version when a security fix comes: a pinned one would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg tini \
    && rm -rf /var/lib/apt/lists/*

# The numbers are fixed, because owners of files on volumes are numbers.
RUN groupadd --gid 1000 media \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /app/data --shell /usr/sbin/nologin media \
    && install --directory --owner=1000 --group=1000 /app/downloads \
    && install --directory --owner=1000 --group=1000 --mode=0700 /app/data \
    && install --directory /app/cookies

COPY --from=build /opt/venv /opt/venv
# For Celery's own tools: celery inspect, celery control.
COPY deploy/celeryconfig.py /app/celeryconfig.py

# Nothing is written outside of /app/downloads, /app/data and /tmp: the root may be read-only. Listening on every address
# is that of the container alone; who reaches it is decided where the port is published.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/app/data \
    DENO_DIR=/app/data/deno \
    MEDIA_DOWNLOADER_HOST=0.0.0.0 \
    MEDIA_DOWNLOADER_DATA_DIR=/app/data \
    YTDLP_OUTPUT_PATH=/app/downloads

WORKDIR /app
USER 1000:1000
EXPOSE 8000
VOLUME ["/app/downloads", "/app/data"]

# Of a server. Workers have no port: theirs is `media-downloader health --worker`, as in compose.yaml.
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 CMD ["media-downloader", "health"]

# tini reaps processes whose parent died; the program itself need not be the first process.
ENTRYPOINT ["/usr/bin/tini", "--", "media-downloader"]
CMD ["serve"]
