# syntax=docker/dockerfile:1
# Build: docker build -t batchsubmit .                   one image for every command
#        docker build -t batchsubmit:worker --target worker .   the same with a worker's health check and command
# Run:   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/data" -e AWS_REGION batchsubmit submit jobs.csv

FROM python:3.13-slim AS build
RUN python -m venv /opt/venv
WORKDIR /src
COPY configs/constraints.txt configs/constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY batchsubmit batchsubmit
# The report's script is made here, since it takes seconds and no container has a home to keep it in.
# The wheel is built here; neither pip's build tools nor the source reach the final image.
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -c configs/constraints.txt '.[metrics]' \
    && /opt/venv/bin/pip uninstall --yes pip \
    && XDG_CACHE_HOME=/opt/venv/cache /opt/venv/bin/python -c 'from batchsubmit.report.charts import library; library()' \
    && find /opt/venv -name '__pycache__' -prune -exec rm -rf {} + \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib

FROM python:3.13-slim AS runtime
RUN pip uninstall --yes pip \
    && groupadd --system --gid 10001 batchsubmit \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent batchsubmit \
    && install --directory --owner=10001 --group=0 --mode=0770 /data
COPY --from=build /opt/venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/opt/venv/cache
USER 10001:10001
# Manifests are read and ledgers written here; the root file system may be read-only.
WORKDIR /data
VOLUME ["/data"]
# Exec form: the program is process 1 and SIGTERM reaches it, so that a stopped container drains.
ENTRYPOINT ["batchsubmit"]

FROM runtime AS worker
EXPOSE 9464
# Asks /livez of the worker in this container, at whatever port the settings say. Kubernetes has probes of its own and
# does not look at this; an ECS task definition repeats it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["batchsubmit", "worker", "--check"]
# A drain ends by itself; docker stop --time 120 gives it the time.
STOPSIGNAL SIGTERM
CMD ["worker"]

FROM runtime AS batch
CMD ["--help"]
# A batch ends by itself and its exit status tells; a health check would only tell that it has not ended yet.
HEALTHCHECK NONE
