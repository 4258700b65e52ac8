"""What gunicorn is told for tests/web/tiny.py."""

from server.gunicorn_turns import leave_place
from server.gunicorn_worker import set_limits

child_exit = leave_place
when_ready = set_limits
