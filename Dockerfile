# The agent as an image: one virtual environment, no compiler, no secret, user 10001, nothing written outside /var/lib/finagent and /tmp.
# BASE is any image with python3 >= 3.11 and its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# What the image has beside the core; `--build-arg EXTRAS=` leaves training (torch, MLflow) and the other brokers and stores out.
ARG EXTRAS=alpaca,postgres,redis,models
WORKDIR /src
# The dependencies are a layer of their own: a change of the source does not install them again.
COPY pyproject.toml README.md ./
COPY .ci/constraints.txt .ci/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print('\n'.join(p['dependencies'] + [r for e in sys.argv[1].split(',') if e for r in p['optional-dependencies'][e]]))" "${EXTRAS}" > requirements.txt \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c .ci/constraints.txt -r requirements.txt
COPY settings.yaml ./
COPY migrations migrations
COPY src src
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps -c .ci/constraints.txt . \
    && /opt/venv/bin/python -m pip check

FROM ${BASE}
RUN groupadd --gid 10001 finagent \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/finagent --shell /usr/sbin/nologin finagent \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/finagent
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FINAGENT__STORAGE__DIRECTORY=/var/lib/finagent
WORKDIR /var/lib/finagent
VOLUME /var/lib/finagent
USER 10001:10001
EXPOSE 8321
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/venv/bin/python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('FINAGENT__HTTP__PORT', '8321') + '/health/live', timeout=3)"]
ENTRYPOINT ["/opt/venv/bin/finagent"]
CMD ["orchestrate"]
