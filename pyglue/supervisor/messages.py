# SPDX-License-Identifier: Apache-2.0
"""What the supervisor writes into error logs: one row a message, with its id and level.

docs/reference/messages.md lists the ids. The texts say what happened, to which object, and what
the administrator can do; they are formatted where the values are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """httpd's levels, by their numbers in LogLevel."""

    ALERT = 1
    CRIT = 2
    ERR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


LEVEL_NAMES = {
    Level.ALERT: "alert",
    Level.CRIT: "crit",
    Level.ERR: "error",
    Level.WARNING: "warn",
    Level.NOTICE: "notice",
    Level.INFO: "info",
    Level.DEBUG: "debug",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of log line."""

    id: str
    level: Level
    text: str


STARTED = Message("PG1000", Level.INFO, "supervisor started, epoch {epoch}, Python {python}")
STOPPED = Message("PG1001", Level.INFO, "supervisor ends: {reason}")
PLAN_TAKEN = Message("PG1002", Level.INFO, "plan {plan} accepted: {groups} process groups")
PLAN_REFUSED = Message(
    "PG1003",
    Level.ERR,
    "plan {plan} refused, what ran before goes on: {reason}. Nothing of the new configuration "
    "of process groups is in force until httpd is restarted with one that can be taken",
)
STRANGE_MESSAGE = Message(
    "PG1004", Level.WARNING, "a message on the supervisor's socket was ignored: {reason}"
)
SURVIVORS = Message(
    "PG1005",
    Level.ERR,
    "{count} processes could not be ended before the supervisor had to go, see what keeps them "
    "(ps -o pid,stat,wchan:30,args): pids {pids}",
)
DESCRIPTORS = Message(
    "PG1006",
    Level.WARNING,
    "the limit of open files is {limit}, which is enough for some {workers} workers only; raise "
    "httpd's own (LimitNOFILE= of its service, or ulimit -n)",
)
PARENT_GONE = Message(
    "PG1007",
    Level.WARNING,
    "httpd's parent is gone; serving until its {children} children are. They hold its ports: to "
    "start httpd again end them first, by SIGKILL",
)

UNWRITTEN = Message(
    "PG1012", Level.WARNING, "{lost} lines could not be written to this log: {reason}"
)

BOUNDED = Message(
    "PG1151",
    Level.INFO,
    "its workers live in {folders}, bounds: {bounds}; what they leave behind is ended by {means}",
)
UNBOUNDED = Message(
    "PG1152",
    Level.INFO,
    "its workers have no cgroup (cgroup=); what they leave behind is looked for among the "
    "supervisor's descendants, which a fork bomb can outrun",
)
OTHERS_KILLED = Message(
    "PG1154",
    Level.WARNING,
    "its cgroup was out of memory (bounds: {bounds}), and the kernel ended {count} processes in it "
    "that its workers had started",
)
CGROUPS_LEFT = Message(
    "PG1153",
    Level.WARNING,
    "cgroups could not be removed, rmdir does when what is in them has ended: {folders}",
)

WORKER_STARTED = Message("PG1100", Level.INFO, "worker {number} started as pid {pid}")
WORKER_READY = Message("PG1101", Level.INFO, "worker {number} is ready")
WORKER_HOMELESS = Message(
    "PG1116",
    Level.INFO,
    "worker {number} begins in '/': the home of its user, '{home}', cannot be entered; home= "
    "names another folder",
)
WORKER_ENDED = Message(
    "PG1102",
    Level.INFO,
    "worker {number} (pid {pid}) ended as asked after {served} requests: {cause}",
)
WORKER_DIED = Message(
    "PG1103",
    Level.ERR,
    "worker {number} (pid {pid}), after {served} requests and with {running} running, {cause}; "
    "{next}{ran}",
)
WORKER_CUT = Message(
    "PG1140",
    Level.ERR,
    "worker {number} (pid {pid}) ended as asked, but before the end of {running} requests: "
    "{cause}{ran}",
)
NOT_DROPPED = Message(
    "PG1117",
    Level.ALERT,
    "worker {number} (pid {pid}) could not be made the group's user's and ran nothing of his: "
    "{cause}; {next}",
)
WORKER_UNLOADED = Message(
    "PG1104",
    Level.ERR,
    "worker {number} (pid {pid}) could not load all scripts (the reason stands above); {next}",
)
LAUNCH_FAILED = Message(
    "PG1105", Level.ERR, "worker {number} could not be started: {reason}; {next}"
)
LAUNCH_LATE = Message(
    "PG1106",
    Level.ERR,
    "worker {number} (pid {pid}) did not report within launch-timeout ({seconds:g} s) and is "
    "killed; see whether its Python can be executed and read by the group's user",
)
KILLED_LATE = Message(
    "PG1107",
    Level.WARNING,
    "worker {number} (pid {pid}) did not end within its shutdown-timeout ({seconds:g} s) and is "
    "killed",
)
BREACH = Message(
    "PG1108", Level.ERR, "worker {number} (pid {pid}) sent what it may not ({what}) and is replaced"
)
FLOOD = Message(
    "PG1109",
    Level.WARNING,
    "worker {number} sends too many messages; it is read slower. See what its application writes "
    "to descriptor 6, or who touches its script or sends it SIGUSR1 again and again",
)
FAILED = Message("PG1110", Level.ERR, "worker {number} (pid {pid}) cannot serve: {reason}; {next}")
LINES_LOST = Message(
    "PG1111",
    Level.WARNING,
    "{lost} lines of its workers were dropped: more than {rate} a second (log-rate=, log-burst=), "
    "or the error log did not take them",
)
ROLLING = Message("PG1112", Level.INFO, "new workers are started: {reason}")
DEPARTED = Message(
    "PG1113",
    Level.INFO,
    "the group is not in plan {plan}; it serves until the last httpd child of an "
    "older plan has gone",
)
NO_ROOM = Message(
    "PG1114",
    Level.ERR,
    "no worker is started: {workers} workers exist, more than the tables hold; use "
    "fewer processes, or wait for those that are leaving",
)
WORKER_STOPPED = Message(
    "PG1115",
    Level.WARNING,
    "worker {number} (pid {pid}) was stopped by a signal and is killed, because requests would "
    "wait in it; to look into a worker use a debugger, which stops it by other means",
)
WORKER_UNREADABLE = Message(
    "PG1129",
    Level.ERR,
    "worker {number} (pid {pid}) is killed: what lies in its pipes cannot be read, or not without "
    "waiting for a file system that does not answer; they hold pages of a file, put there by "
    "splice(2)",
)
STILL_DRAINS = Message(
    "PG1120",
    Level.INFO,
    "worker {number} (pid {pid}) was asked to leave {minutes} min ago and finishes requests yet; "
    "{end}",
)
DRAINED_LATE = Message(
    "PG1121",
    Level.WARNING,
    "worker {number} (pid {pid}) had {seconds:g} s to finish its requests ({option}) and has not; "
    "it ends within shutdown-timeout",
)
ROLL_WAITS = Message(
    "PG1122",
    Level.WARNING,
    "{leaving} workers are leaving and finish requests yet; the next one is replaced when one of "
    "them has ended. drain-timeout= bounds how long that takes",
)
STARTED_ON_DEMAND = Message("PG1124", Level.INFO, "a request waits, so the first worker is started")
STOPPED_IDLE = Message(
    "PG1125",
    Level.INFO,
    "worker {number} (pid {pid}) was the last one and had no request for inactivity-timeout; the "
    "next request has one started",
)
GROWN = Message("PG1126", Level.INFO, "requests wait ({waiting}): from now on {count} workers")
SHRUNK = Message("PG1127", Level.INFO, "fewer are enough: from now on {count} workers")
LOADS_ALONE = Message(
    "PG1123",
    Level.WARNING,
    "worker {number} could not load all scripts beside older ones, which may hold a port or a "
    "lock: as reload=strict says they end first",
)
RECYCLED = Message("PG1118", Level.INFO, "worker {number} (pid {pid}) gets a successor: {reason}")
RECYCLED_FAULTY = Message(
    "PG1119", Level.WARNING, "worker {number} (pid {pid}) gets a successor: {reason}"
)
SOCKETS_GONE = Message(
    "PG1128",
    Level.WARNING,
    "the socket directory {path} was removed or replaced by somebody: nobody can connect to its "
    "workers any more, new ones are started in one that is made anew",
)
PRELOADER_STARTED = Message(
    "PG1170", Level.INFO, "the application is preloaded by pid {pid}, of which workers are forks"
)
PRELOADER_GONE = Message(
    "PG1171",
    Level.WARNING,
    "the process that had preloaded the application (pid {pid}) {cause}; workers serve on, and the "
    "next one to start needs another. If this comes again and again: preload=off",
)
