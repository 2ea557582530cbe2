"""Asks /healthz and exits with 0 or 1: the container's health check. Standard library only, so that it starts fast.

Run as `python config/healthcheck.py`. Sends the host name of BASE_URL, since no other is served.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit


def main() -> int:
    host = urlsplit(os.environ.get("BASE_URL", "http://localhost")).netloc
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        answer = connection.getresponse()
        sys.stdout.write(answer.read(1000).decode() + "\n")
    except OSError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
