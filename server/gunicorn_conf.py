"""How gunicorn serves the application. Read by gunicorn itself; the settings come from Config."""

import os
import select
import shutil

from gunicorn.arbiter import Arbiter

from server.core.config import load_config
from server.gunicorn_log import Log
from server.gunicorn_turns import leave_place
from server.gunicorn_worker import set_limits
from server.logs import configure_logging
from server.metrics_folder import VARIABLE

_config = load_config(os.environ)
configure_logging(_config.log_format, _config.log_level)

bind = f"0.0.0.0:{_config.port}" if not _config.is_local_trial else f"127.0.0.1:{_config.port}"
workers = _config.web_workers
threads = _config.web_threads
# Where there is no epoll, gunicorn's own way of handing connections to threads will do.
worker_class = "server.gunicorn_worker.Worker"
if hasattr(select, "epoll"):
    worker_class = "server.gunicorn_epoll.EpollWorker"
# A worker that does not answer for this long is replaced. The AppView gives up after 5 s.
timeout = 30
# `stop` must be over within 10 s.
graceful_timeout = 6
# The AppView and the platform's proxy keep their connections: longer than they do, so that it is
# never us who closes one that is about to be used.
keepalive = 75
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
# Connections of one worker, most of them idle; more of them wait in the kernel, as its backlog.
worker_connections = 1000
backlog = 2048
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
# Nobody's word on schemes and paths is taken, nothing here depends on them. So it need not be asked
# at each request whether it comes from somebody who may say such things.
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
accesslog = None
logger_class = Log
loglevel = "warning"
# Another door, with the rights to stop us; and two services of one user would share it.
control_socket_disable = True
child_exit = leave_place
when_ready = set_limits


def on_exit(_server: Arbiter) -> None:
    """Remove what the workers counted. After a crash the next start does it."""
    shutil.rmtree(os.environ.get(VARIABLE, ""), ignore_errors=True)
