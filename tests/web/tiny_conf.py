"""What gunicorn is told for tests/web/tiny.py."""

from server.gunicorn_turns import leave_place

child_exit = leave_place
