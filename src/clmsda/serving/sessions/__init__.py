"""A person at work on one CT: lesions, what was said of each, undo, and a folder that keeps it all. No HTTP here."""

from clmsda.serving.sessions.desk import Desk, Opened
from clmsda.serving.sessions.errors import Busy, Cancelled, NoSuchLesion, SessionError
from clmsda.serving.sessions.lesions import Lesion, Step
from clmsda.serving.sessions.session import Session
from clmsda.serving.sessions.worker import Job, Worker

__all__ = [
    "Busy",
    "Cancelled",
    "Desk",
    "Job",
    "Lesion",
    "NoSuchLesion",
    "Opened",
    "Session",
    "SessionError",
    "Step",
    "Worker",
]
