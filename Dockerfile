# One image for web, worker, clock and migrations. It holds no secret, runs as nobody in particular, and writes only to
# /tmp, so that its file system can be read-only.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /venv && /venv/bin/pip install --require-hashes -r requirements/run.txt

FROM node:22-bookworm-slim AS front
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci

FROM packages AS static
COPY . .
COPY --from=front /app/node_modules node_modules
RUN /venv/bin/python scripts/build_static.py \
    && OFFLINE=1 /venv/bin/python manage.py collectstatic --noinput

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH HOST=0.0.0.0 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin gatehouse \
    && install -d -o 10001 -m 0700 /ledger
WORKDIR /app
COPY --from=packages /venv /venv
COPY manage.py pyproject.toml ./
COPY apps apps
COPY config config
COPY static static
COPY templates templates
COPY --from=static /app/staticfiles staticfiles
RUN python -m compileall -q apps config
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=3 CMD ["python", "config/healthcheck.py"]
CMD ["gunicorn", "--config", "python:config.gunicorn"]
