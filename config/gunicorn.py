"""The web server: a few processes with threads. Used as `gunicorn --config python:config.gunicorn`."""

from pathlib import Path

from config import env

bind = f"{env.text('HOST', '127.0.0.1')}:{env.number('PORT', 8000)}"
workers = env.number("WEB_WORKERS", 2)
worker_class = "gthread"
threads = env.number("WEB_THREADS", 4)
timeout = 60  # seconds without a sign of life; exports stream
graceful_timeout = 20
max_requests, max_requests_jitter = 5000, 500  # a worker that grows is replaced
control_socket_disable = True
wsgi_app = "config.wsgi:application"

_memory = Path("/dev/shm")  # noqa: S108  for heartbeats, since the file system may be read-only
if _memory.is_dir():
    worker_tmp_dir = str(_memory)
