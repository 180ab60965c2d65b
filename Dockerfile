# The image of all processes of zaqar-notify: `up` (the default), `api`, `worker` and the client.

FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1


FROM base AS build
WORKDIR /src
COPY lock/build.txt lock/run.txt lock/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/build \
    && pip --python /opt/build/bin/python install --require-hashes --requirement lock/build.txt \
    && python -m venv --without-pip /opt/zaqar-notify \
    && pip --python /opt/zaqar-notify/bin/python install --compile --require-hashes --requirement lock/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY sinks sinks
COPY workers workers
COPY zaqar_notify zaqar_notify
RUN pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && pip --python /opt/zaqar-notify/bin/python install --compile --no-deps --no-index /opt/wheels/*.whl \
    && pip --python /opt/zaqar-notify/bin/python check


FROM base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin zaqar \
    && install --directory --owner=zaqar --group=zaqar --mode=0750 /data
COPY --from=build /opt/zaqar-notify /opt/zaqar-notify
ENV PATH=/opt/zaqar-notify/bin:$PATH
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8888
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, ssl; from urllib.request import urlopen; scheme = 'https' if os.environ.get('ZAQAR_TLS_CERT_FILE') else 'http'; urlopen(f'{scheme}://127.0.0.1:8888/healthz', timeout=4, context=ssl._create_unverified_context())"]
ENTRYPOINT ["zaqar-notify"]
CMD ["up", "--host", "0.0.0.0", "--data", "/data"]
