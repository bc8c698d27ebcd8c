# titans-stream: `docker run -v ./connectors:/connectors IMAGE run /connectors/mine.yaml`
#
#   BASE_IMAGE   a slim image with Python 3.11 or newer, pip and useradd; for builds that can be
#                repeated name it by its digest: python:3.12-slim@sha256:...
#   TORCH_INDEX  index of CPU-only torch wheels; without it, torch comes with CUDA
#   GPUS         compute capabilities, such as "8.0 9.0": with the extra `gpu` and kernels for those
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX=
ARG GPUS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The base image's pip installs into /opt/titans, which needs none of its own.
RUN python3 -m venv --without-pip /opt/titans
# Dependencies first, by way of a package without code: a change of the code fetches none of them.
# torch==V in constraints.txt also allows V+cpu; what torch needs comes from the ordinary index.
COPY constraints.txt pyproject.toml ./
RUN touch README.md && \
    install="python3 -m pip --python /opt/titans/bin/python install -c constraints.txt" && \
    if [ -n "${TORCH_INDEX}" ]; then $install --no-deps --index-url "${TORCH_INDEX}" torch; fi && \
    $install ".${GPUS:+[gpu]}"
COPY README.md LICENSE ./
COPY titans_stream ./titans_stream
RUN python3 -m pip --python /opt/titans/bin/python install --no-deps --force-reinstall .
# Kernels for the CPU of the machine that builds, and for GPUs; others are compiled where they run.
RUN XDG_CACHE_HOME=/opt/titans/kernels /opt/titans/bin/python \
      -m titans_stream.engine.device.prebuilt --forecasts --capability ${GPUS} && \
    chmod -R a+rX,go-w /opt/titans/kernels

FROM ${BASE_IMAGE}
RUN useradd --create-home --uid 10001 titans && install -d -m 0700 -o titans -g titans /state
COPY --from=build /opt/titans /opt/titans
ENV PATH=/opt/titans/bin:$PATH PYTHONUNBUFFERED=1 TITANS_HEALTH_FILE=/tmp/titans-stream.health
# Compiled kernels stay with the state. A new volume gets those of the image; where they do not fit
# the machine, its first start compiles them.
ENV XDG_CACHE_HOME=/state/.cache TITANS_STREAM_KERNELS=/opt/titans/kernels/titans-stream
# by number, so that an orchestrator can tell that it is not root
USER 10001
WORKDIR /state
VOLUME /state
HEALTHCHECK --interval=30s --timeout=5s --start-period=300s --retries=3 \
  CMD ["titans-stream", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["titans-stream"]
CMD ["run", "/connectors/connector.yaml"]
