# titans-stream: `docker run -v ./connectors:/connectors IMAGE run /connectors/mine.yaml`
#
#   BASE_IMAGE   a slim image with Python 3.11 or newer
#   TORCH_INDEX  index of CPU-only torch wheels; without it, torch comes with CUDA
ARG BASE_IMAGE=python:3.12-slim
FROM ${BASE_IMAGE} AS build
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python3 -m venv /opt/titans
COPY constraints.txt ./
COPY pyproject.toml README.md ./
COPY titans_stream ./titans_stream
RUN if [ -n "${TORCH_INDEX}" ]; then \
      version=$(sed -n 's/^torch==//p' constraints.txt) && \
      /opt/titans/bin/pip install --index-url "${TORCH_INDEX}" "torch==${version}"; \
    fi && \
    sed -E '/^(torch==|triton==|nvidia-|cuda-)/d' constraints.txt > portable.txt && \
    /opt/titans/bin/pip install -c "$([ -n "${TORCH_INDEX}" ] && echo portable.txt || echo constraints.txt)" .

FROM ${BASE_IMAGE}
COPY --from=build /opt/titans /opt/titans
RUN useradd --create-home --uid 10001 titans && mkdir /state && chown titans:titans /state
ENV PATH=/opt/titans/bin:$PATH PYTHONUNBUFFERED=1 TITANS_HEALTH_FILE=/tmp/titans-stream.health
USER titans
WORKDIR /state
VOLUME /state
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
  CMD ["titans-stream", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["titans-stream"]
CMD ["run", "/connectors/connector.yaml"]
