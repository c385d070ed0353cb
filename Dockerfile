# The worker and the API in one image: `docker run tollhouse worker`, `docker run tollhouse api`.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tollhouse
WORKDIR /src
# The locked dependencies first: their layer stays as long as the lock does.
COPY requirements.lock ./
RUN /opt/tollhouse/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY pipeline pipeline
COPY streams streams
COPY billing billing
COPY tollhouse tollhouse
COPY sdk sdk
RUN /opt/tollhouse/bin/pip install --no-deps --no-build-isolation ./sdk .

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="tollhouse" \
      org.opencontainers.image.description="Usage metering and billing for LLM proxies" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/tollhouse --shell /usr/sbin/nologin tollhouse
COPY --from=build /opt/tollhouse /opt/tollhouse
ENV PATH="/opt/tollhouse/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /var/lib/tollhouse
VOLUME ["/var/lib/tollhouse"]
EXPOSE 8080
ENTRYPOINT ["tollhouse"]
CMD ["--help"]
