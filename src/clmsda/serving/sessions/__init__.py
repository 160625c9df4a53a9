"""A person at work on one CT: lesions, what was said of each, undo, and a folder that keeps it all. No HTTP here."""

from clmsda.serving.sessions.desk import Desk, Opened
from clmsda.serving.sessions.errors import Busy, Cancelled, Changed, NoSuchLesion, NoSuchStep, NotOpen, SessionError
from clmsda.serving.sessions.lesions import Lesion, Step
from clmsda.serving.sessions.session import Session
from clmsda.serving.sessions.worker import Job, Worker

__all__ = [
    "Busy",
    "Cancelled",
    "Changed",
    "Desk",
    "Job",
    "Lesion",
    "NoSuchLesion",
    "NoSuchStep",
    "NotOpen",
    "Opened",
    "Session",
    "SessionError",
    "Step",
    "Worker",
]
