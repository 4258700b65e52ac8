"""What `python -m server` can do. To add a command: a module here, and a line in COMMANDS."""

from server.commands.backup import COMMAND as BACKUP
from server.commands.command import Command
from server.commands.cursor import COMMAND as CURSOR
from server.commands.doctor import COMMAND as DOCTOR
from server.commands.explain import COMMAND as EXPLAIN
from server.commands.forget import COMMAND as FORGET
from server.commands.ingest import COMMAND as INGEST
from server.commands.migrate import COMMAND as MIGRATE
from server.commands.restore import COMMAND as RESTORE
from server.commands.run import COMMAND as RUN
from server.commands.status import COMMAND as STATUS
from server.commands.web import COMMAND as WEB

COMMANDS: tuple[Command, ...] = (
    RUN,
    WEB,
    INGEST,
    MIGRATE,
    STATUS,
    DOCTOR,
    EXPLAIN,
    BACKUP,
    RESTORE,
    CURSOR,
    FORGET,
)
