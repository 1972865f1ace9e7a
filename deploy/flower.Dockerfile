# Flower shows Celery's workers and tasks in a browser. An image of its own: servers and workers have nothing of it.
#
#   docker build --file deploy/flower.Dockerfile --tag media-downloader-flower:local .

FROM python:3.13-slim-bookworm

LABEL org.opencontainers.image.title="Flower for Media Downloader"

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY deploy/flower.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m pip install --require-hashes --only-binary=:all: --requirement flower.lock \
    && useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin media
COPY deploy/celeryconfig.py ./

USER 1000:1000
EXPOSE 5555

HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5555/healthcheck', timeout=10)"]

CMD ["celery", "flower", "--address=0.0.0.0", "--port=5555"]
