# One image for every role: `run` (the default), or `web`, `ingest` and `migrate` where they run apart.

FROM python:3.11-slim AS packages
COPY requirements.txt /tmp/
# Only wheels: a package that had to be compiled would want a compiler here, and says so. What
# serves the feeds installs nothing, so the installer stays behind.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
      --only-binary :all: --require-hashes -r /tmp/requirements.txt \
 && /opt/venv/bin/python -m pip uninstall --yes --quiet pip setuptools


FROM python:3.11-slim
COPY --from=packages /opt/venv /opt/venv
# A fixed number, so that whoever mounts a folder of the host knows whom to give it to.
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin gapless \
 && install --directory --owner gapless /data
WORKDIR /app
COPY server server
COPY feeds feeds
COPY migrations migrations

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    DATABASE_URL=sqlite:////data/gapless.db
USER gapless
VOLUME /data
EXPOSE 8000

# Whether the process answers. `/ready` also says whether the stream moves: that is for whoever
# alerts people, since starting a container anew does not mend a relay.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/health\", timeout=4)"]

CMD ["python", "-m", "server", "run"]
